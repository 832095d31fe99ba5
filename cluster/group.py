"""What a worker group is: the protocol, and the values that cross it.

A group evaluates a pure *work function* on a list of *items*, each together with one shared vector, and
hands the results back in the order of the items, whatever happens to the workers meanwhile. It knows
nothing of what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cluster.errors import ContractViolation

Vector: TypeAlias = NDArray[np.float32]


class Item(Protocol):
    """One piece of work. Small (it travels by value), picklable, and immutable."""

    @property
    def kind(self) -> str:
        """Items of one kind take about as long as each other: ``"train"``, ``"evaluate"``, ..."""

    @property
    def index(self) -> int:
        """Position in its call, 0..n-1."""

    def describe(self) -> str:
        """What it stands for, in one line, for error messages."""


WorkFunction: TypeAlias = Callable[[int, Vector, Any], Any]
"""``(version, shared vector (read-only), item) -> result``. A pure function: it may run more than once."""

WorkFactory: TypeAlias = Callable[[], WorkFunction]
"""Builds the work function; picklable. Runs once in each worker, in the thread that computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What each worker computes before it is given work: all must agree to the bit.

    Attributes:
        version, shared, item: as in a call; the result must be a ``Partial``.
        expected: ``digest`` of the result, known from an earlier group. None: the first worker's.
    """

    version: int
    shared: Vector
    item: Any
    expected: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The sums of one item, for ``reduce``."""

    vector: Vector
    """Sum over the item's tasks; float32, one-dimensional, of one length in the whole call."""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """name -> (sum, count)."""
    count: int = 0
    """Number of tasks in the sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """The sums of all items, added in item order. Nothing is divided yet."""

    vector: NDArray[np.float64]
    metrics: dict[str, tuple[float, float]]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTiming:
    """Where the time of one ``map_ordered`` or ``reduce`` went, in seconds."""

    wall_s: float = 0.0
    """From the first item issued to the last result handed over."""
    busy_any_s: float = 0.0
    """Time in which at least one worker computed (the union of the intervals)."""
    busy_total_s: float = 0.0
    """Time that workers computed, added up over workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a worker or an item, for a journal. Never needed for the results.

    Kinds and their details:
        worker_started: worker, slot, pid, node, startup_s, canary (digest, or None)
        worker_lost: worker, slot, pid, version (None outside a call), reason
        worker_not_replaced: worker, slot, reason (the restart budget is used up)
        worker_delayed: slot, delay_s (it was lost again before it had given a result)
        worker_leaving: worker, slot, node (the node was told to go; another worker is asked for)
        node_avoided: node, reason (new workers go elsewhere, if there is room)
        workers_missing: ready, asked, has (warm-up is over, fewer than asked but enough are ready)
        shard_reissued: version, index, attempt (the new one, from 2), worker (which lost it, or is late), reason
    """

    kind: str
    detail: Mapping[str, Any]


OnEvent: TypeAlias = Callable[[Event], None]


@runtime_checkable
class WorkerGroup(Protocol):
    """A place where items are evaluated. ``LocalGroup`` and ``RayGroup`` keep this one contract.

    One call at a time. A consumer may stop reading the results of ``map_ordered`` early (close the
    iterator, or begin another call, after which the old iterator raises): what was outstanding is dropped.

    Raises, from either call:
        ShardFailed: the work function raised.
        ShardPoisoned: an item used up its attempts.
        WorkerStartFailed: the factory raised.
        ContractViolation: wrong input or wrong result; also a call on a closed group.
        GroupStartTimeout, WorkersLost: no workers to run on.
    """

    @property
    def num_workers(self) -> int:
        """How many workers the group aims at."""

    def map_ordered(self, version: int, shared: Vector, items: Sequence[Item]) -> Iterator[Any]:
        """Yields the results in item order, each once. ``shared`` (P,) is taken as it is at the call."""

    def reduce(self, version: int, shared: Vector, items: Sequence[Item]) -> Folded:
        """Adds the items' ``Partial`` results in item order, in float64."""

    def timing(self) -> StepTiming:
        """Of the last call that ended."""

    def close(self) -> None:
        """Ends all workers; may be called again."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def check_call(shared: Vector, items: Sequence[Item]) -> None:
    """Refuses what would otherwise give wrong numbers later.

    Raises:
        ContractViolation: ``shared`` is not a contiguous float32 vector, or an item is not at its index.
    """
    if not isinstance(shared, np.ndarray):
        raise ContractViolation(f"the shared vector must be a numpy array; got {type(shared).__name__}")
    if shared.dtype != np.float32 or shared.ndim != 1 or not shared.flags.c_contiguous:
        raise ContractViolation(
            f"the shared vector must be contiguous float32 of shape (P,); got {shared.dtype} of shape {shared.shape}"
        )
    for position, item in enumerate(items):
        if item.index != position:
            raise ContractViolation(
                f"item {item.describe()} has index {item.index} but stands at position {position} of its call"
            )
