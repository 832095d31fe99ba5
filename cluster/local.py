"""``LocalGroup``: everything in this process and thread. No Ray; a debugger works in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from cluster.context import WorkerContext, entered
from cluster.errors import ContractViolation, ShardFailed, ShardPoisoned, WorkerStartFailed
from cluster.failure import Failure, capture
from cluster.fold import OrderedFold
from cluster.group import Event, Folded, Item, OnEvent, StepTiming, Vector, WorkFactory, check_call
from cluster.timing import Interval, union_length

_WORKER = "local"


class LocalGroup:
    """One worker: the caller. The reference that every other group must equal bit for bit.

    Args:
        factory: builds the work function, at once.
        on_event: told of a re-issued item.
        max_attempts: how often an item may meet a ``PlaceFailure`` or ``MemoryError``.

    Raises:
        WorkerStartFailed: the factory raised; its exception is the cause.
    """

    def __init__(self, factory: WorkFactory, on_event: OnEvent | None = None, *, max_attempts: int = 3) -> None:
        self._on_event = on_event
        self._max_attempts = max_attempts
        self._context = WorkerContext(worker=_WORKER, slot=0, backend="local")
        self._timing = StepTiming()
        self._call = 0
        self._closed = False
        try:
            with entered(self._context):
                self._work = factory()
        except Exception as error:  # the caller's factory: any type; it is chained
            failure = capture(error)
            raise WorkerStartFailed(
                worker=_WORKER,
                error_type=failure.error_type,
                message=failure.message,
                remote_traceback=failure.remote_traceback,
            ) from error

    @property
    def num_workers(self) -> int:
        """Always one."""
        return 1

    def map_ordered(self, version: int, shared: Vector, items: Sequence[Item]) -> Iterator[Any]:
        """See ``WorkerGroup.map_ordered``. An item is computed when its result is asked for."""
        if self._closed:
            raise ContractViolation("the group is closed")
        check_call(shared, items)
        self._call += 1
        copy = shared.copy()  # as it is now: the caller may go on to write into his
        copy.flags.writeable = False
        return self._results(self._call, version, copy, list(items))

    def reduce(self, version: int, shared: Vector, items: Sequence[Item]) -> Folded:
        """See ``WorkerGroup.reduce``."""
        fold = OrderedFold(version=version, num_items=len(items))
        for index, partial in enumerate(self.map_ordered(version, shared, items)):
            fold.add(version, index, partial)
        return fold.result()

    def timing(self) -> StepTiming:
        """See ``WorkerGroup.timing``."""
        return self._timing

    def close(self) -> None:
        """See ``WorkerGroup.close``."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _results(self, call: int, version: int, shared: Vector, items: list[Item]) -> Iterator[Any]:
        began = time.monotonic()
        worked: list[Interval] = []
        try:
            for item in items:
                if call != self._call or self._closed:
                    raise ContractViolation(f"version {version}: another call began, or the group was closed")
                start = time.monotonic()
                result = self._evaluate(version, shared, item)
                worked.append((start, time.monotonic()))
                yield result
        finally:
            self._timing = StepTiming(
                wall_s=time.monotonic() - began,
                busy_any_s=union_length(worked),
                busy_total_s=sum(end - start for start, end in worked),
            )

    def _evaluate(self, version: int, shared: Vector, item: Item) -> Any:
        reasons: list[str] = []
        while True:
            try:
                with entered(self._context):
                    return self._work(version, shared, item)
            except Exception as error:  # the caller's function: any type; it is chained
                failure = capture(error)
                if not failure.place:
                    raise ShardFailed(
                        version=version,
                        index=item.index,
                        describe=item.describe(),
                        error_type=failure.error_type,
                        message=failure.message,
                        remote_traceback=failure.remote_traceback,
                        worker=_WORKER,
                    ) from error
                reasons.append(f"{failure.error_type}: {failure.message}")
                if len(reasons) >= self._max_attempts:
                    raise ShardPoisoned(
                        version=version,
                        index=item.index,
                        describe=item.describe(),
                        attempts=len(reasons),
                        reasons=tuple(reasons),
                    ) from error
                self._tell_reissued(version, item, len(reasons) + 1, failure)

    def _tell_reissued(self, version: int, item: Item, attempt: int, failure: Failure) -> None:
        if self._on_event is not None:
            detail = {
                "version": version,
                "index": item.index,
                "attempt": attempt,
                "worker": _WORKER,
                "reason": failure.error_type,
            }
            self._on_event(Event(kind="shard_reissued", detail=detail))
