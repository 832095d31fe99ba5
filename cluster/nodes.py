"""Which machines of the cluster to keep away from: those that go away, and those that lose workers."""

from __future__ import annotations

from typing import Any

import ray
from ray._private import state

_COOL_DOWN_S = 120.0
_ENOUGH = 2


class Strikes:
    """Nodes in quarantine. A lost worker is a strike against its node, a hung one or wrong bits are two.

    Two strikes without a result from that node between put it in quarantine for two minutes, wrong bits for
    good. No clock in here.

    >>> strikes = Strikes()
    >>> strikes.lost("a", now=0), strikes.avoided(now=1)
    (None, ())
    >>> strikes.lost("a", now=2), strikes.avoided(now=3), strikes.avoided(now=200)
    (None, ('a',), ())
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def lost(self, node: str, now: float, *, strikes: int = 1) -> None:
        """A worker there was lost."""
        self._counts[node] = self._counts.get(node, 0) + strikes
        if self._counts[node] >= _ENOUGH:
            self._until[node] = max(self._until.get(node, 0.0), now + _COOL_DOWN_S)

    def wrong(self, node: str) -> None:
        """A worker there computes other bits than the rest."""
        self._until[node] = float("inf")

    def answered(self, node: str) -> None:
        """A worker there gave a result."""
        self._counts.pop(node, None)

    def avoided(self, now: float) -> tuple[str, ...]:
        """The nodes in quarantine."""
        return tuple(sorted(node for node, until in self._until.items() if now < until))


def placement(avoided: tuple[str, ...]) -> dict[str, Any]:
    """Actor options: spread over the nodes, those in quarantine only where no other has room."""
    options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
    if avoided:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
        options["fallback_strategy"] = [{"label_selector": {}}]
    return options


def draining() -> frozenset[str]:
    """Ids of the nodes that were told to go (spot notice, scale-down). Empty where this Ray cannot tell.

    Ray places no new actor there by itself, but leaves the old ones where they are. Its question has no public
    name yet (Ray Train asks it the same way).
    """
    ask = getattr(state.state, "get_draining_nodes", None)
    return frozenset(ask()) if ask is not None else frozenset()


def describe_resources() -> str:
    """What the cluster has, for messages: ``2 CPU (0 free), 1 GPU (1 free)``."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    parts = [f"{total.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    return ", ".join(parts)
