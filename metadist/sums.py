"""What a shard's tasks add up to, as it travels: the gradient, metrics, and how far the tasks agree.

Legend: T tasks in a chunk, P meta-learned values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cluster import Partial
from metadist.errors import NonFiniteGradient
from metadist.parameters import Layout, MetaParams, leaves

NUM_SCALARS = 2  # see `_agreement_sums`
DROPPED = "dropped "  # a task that was left out travels as a metric of this name and its key, without a count


class Sums:
    """The running sums of a shard: gradient (P,), metrics, and what the agreement of its tasks needs.

    A task whose gradient or metric is not finite never enters a sum. ``partial`` then refuses the whole shard,
    or, with ``drop``, answers with the sums of the others and the dropped tasks' keys. ``own``: parts of the user's
    own, for that message.
    """

    def __init__(
        self,
        layout: Layout,
        device: str,
        *,
        step: int = 0,
        shard: int = 0,
        drop: bool = False,
        own: tuple[str, ...] = (),
    ) -> None:
        self.layout, self.step, self.shard, self.drop, self.own = layout, step, shard, drop, own
        self.keys: tuple[str, ...] = ()
        self.bad: dict[str, list[str]] = {}  # what is not finite -> keys of tasks
        self.total = torch.zeros(layout.size + NUM_SCALARS, device=device)
        self.metrics: dict[str, tuple[float, float]] = {}
        self.count = 0

    def add(
        self, direction: MetaParams, metrics: Mapping[str, tuple[Tensor, Tensor]], *, keys: tuple[str, ...]
    ) -> None:
        """Add the tasks of a chunk; ``keys`` names them."""
        rows = torch.cat([leaf.reshape(len(keys), -1) for leaf in leaves(direction)], dim=1)  # (T, P)
        kept = self._finite(rows, metrics, keys)
        self.keys += keys
        if not kept:
            return
        if len(kept) < len(keys):  # not a product with zero, which keeps a NaN
            rows = rows[kept]
            metrics = {name: (value[kept], count[kept]) for name, (value, count) in metrics.items()}
        self.total += torch.cat([rows.sum(0), _agreement_sums(rows)])
        for name, (value, count) in metrics.items():
            old = self.metrics.get(name, (0.0, 0.0))
            self.metrics[name] = (old[0] + float(value.double().sum()), old[1] + float(count.double().sum()))
        self.count += len(kept)

    def partial(self) -> Partial:
        """The shard's result, as it travels.

        Raises:
            NonFiniteGradient: names each task that is not finite, or all of them where only their sum is not.
        """
        bad = tuple(key for key in self.keys if any(key in keys for keys in self.bad.values()))
        if bad and not self.drop:
            raise NonFiniteGradient(" or ".join(self.bad), self.step, self.shard, bad, self.own)
        vector = self.total.cpu().numpy()
        if not np.isfinite(vector[: self.layout.size]).all():
            raise NonFiniteGradient("the sum of the meta-gradients", self.step, self.shard, self.keys, self.own)
        extra = {"gradient_agreement": (float(vector[-2]), float(vector[-1]))}
        extra.update({DROPPED + key: (1.0, 0.0) for key in bad})
        return Partial(vector=vector[: self.layout.size].copy(), metrics={**self.metrics, **extra}, count=self.count)

    def _finite(self, rows: Tensor, metrics: Mapping[str, tuple[Tensor, Tensor]], keys: tuple[str, ...]) -> list[int]:
        """Positions of the tasks that are finite in everything; the others are noted by key."""
        kept = torch.ones(len(keys), dtype=torch.bool, device=rows.device)
        for name, values in (("the meta-gradient", rows), *((name, pair[0]) for name, pair in metrics.items())):
            finite = torch.isfinite(values.reshape(len(keys), -1)).all(1)
            kept &= finite
            if not finite.all():
                self.bad.setdefault(name, []).extend(keys[i] for i in (~finite).nonzero()[:, 0].tolist())
        return [int(index) for index in kept.nonzero()[:, 0].tolist()]


def dropped_keys(metrics: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Keys of the tasks that were left out of these sums, in task order."""
    return tuple(name.removeprefix(DROPPED) for name in metrics if name.startswith(DROPPED))


def _agreement_sums(rows: Tensor) -> Tensor:
    """(2,): sum over pairs of the cosine of two tasks' gradients (T, P), and the number of pairs.

    The sum of all unit vectors has squared length T + 2 * (sum over pairs), so no pair is formed.
    """
    norms = rows.norm(dim=1)
    alive = norms > 0
    count = alive.sum()
    units = rows / torch.where(alive, norms, torch.ones_like(norms))[:, None]
    return torch.stack([(units.sum(0).square().sum() - count) / 2, count * (count - 1) / 2])
