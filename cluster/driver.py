"""``RayGroup``: the loop that moves items between a ``Schedule`` and Ray actors.

One object for the shared vector a call, one message for each item, results fetched as they come and handed
over in item order. Whatever happens to the workers changes when a result comes, never what it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import ray
from ray import ObjectRef, cloudpickle

from cluster import recovery
from cluster.call import Call
from cluster.connect import connect
from cluster.deadlines import Deadlines
from cluster.errors import ContractViolation
from cluster.fold import OrderedFold
from cluster.group import Canary, Folded, Item, OnEvent, StepTiming, Vector, WorkFactory, check_call
from cluster.options import RayOptions
from cluster.spawn import pids
from cluster.supervisor import Supervisor

_LARGE = 100 * 2**10  # bytes, as Ray has it


class RayGroup:
    """Workers as Ray actors, on this machine or many.

    Returns at once: the workers start meanwhile, work begins with the first that is ready, late ones join.

    Args:
        factory: builds the work function in each worker; pickled by reference if it can be imported.
        options: where and how many.
        on_event: told of workers that start or are lost, and of re-issued items.
        canary: what each worker computes at its start; one that gives other bits is sent away.

    Raises:
        ClusterUnavailable: no Ray at the address.
        ContractViolation: the factory cannot be pickled, or the address has a wrong form.
    """

    def __init__(
        self,
        factory: WorkFactory,
        options: RayOptions | None = None,
        on_event: OnEvent | None = None,
        canary: Canary | None = None,
    ) -> None:
        self._options = options or RayOptions()
        self._on_event: OnEvent = on_event or (lambda event: None)
        self._timing = StepTiming()
        self._call: Call | None = None
        self._closed = False
        self._deadlines = Deadlines(
            factor=self._options.deadline_factor,
            least_s=self._options.deadline_min_s,
            first_s=self._options.warmup_timeout_s,
        )
        try:
            pickled: bytes = cloudpickle.dumps((factory, canary))  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a user's object raises when it is pickled
            raise ContractViolation(f"the factory {factory!r} cannot be pickled: {error}") from error
        self._owns_ray = connect(self._options)
        try:
            expected = canary.expected if canary else None
            # One copy for all workers; a small one goes with the message.
            sent = ray.put(pickled) if len(pickled) > _LARGE else pickled
            self._supervisor = Supervisor(sent, self._options, expected, self._on_event)
        except BaseException:
            if self._owns_ray:
                ray.shutdown()
            raise

    @property
    def num_workers(self) -> int:
        """How many workers the group aims at; some may be starting."""
        return self._options.num_workers

    def worker_pids(self) -> dict[str, int]:
        """Worker id -> process id (on its own node) of the workers that are ready."""
        return pids(self._supervisor.ready)

    def wait_ready(self, count: int | None = None) -> None:
        """Waits until ``count`` workers are ready. Never needed before a call.

        Args:
            count: None waits for the end of the warm-up: all are ready, or ``min_workers`` in time.

        Raises:
            GroupStartTimeout, WorkerStartFailed, WorkersLost: see ``WorkerGroup``.
        """
        self._check_open()
        self._supervisor.check_alive()
        while not self._supervisor.warm if count is None else len(self._supervisor.ready) < count:
            if not self._supervisor.coming:  # the others were lost and not replaced
                return
            for ref in _wait(self._supervisor.starting, self._supervisor.patience()):
                self._supervisor.greet(ref)
            self._supervisor.tend()
            self._supervisor.check_capacity()

    def map_ordered(self, version: int, shared: Vector, items: Sequence[Item]) -> Iterator[Any]:
        """See ``WorkerGroup.map_ordered``. Results may be read-only views of shared memory."""
        self._check_open()
        check_call(shared, items)
        self._drop_call()
        self._supervisor.check_alive()
        self._supervisor.tend()
        self._supervisor.release()
        call = Call(version, shared, items, self._deadlines, max_attempts=self._options.max_attempts)
        for worker in self._supervisor.ready:
            call.schedule.join(worker.id, worker.node)
        self._call = call
        return self._results(call)

    def reduce(self, version: int, shared: Vector, items: Sequence[Item]) -> Folded:
        """See ``WorkerGroup.reduce``."""
        fold = OrderedFold(version=version, num_items=len(items))
        for index, partial in enumerate(self.map_ordered(version, shared, items)):
            fold.add(version, index, partial)
            del partial  # the loop would hold it, and its shared memory, while it waits for the next one
        return fold.result()

    def timing(self) -> StepTiming:
        """See ``WorkerGroup.timing``."""
        return self._timing

    def close(self) -> None:
        """Kills the workers; leaves Ray if this group joined it. May be called again, and after Ctrl-C."""
        if self._closed:
            return
        self._closed = True
        self._drop_call()
        if ray.is_initialized():
            self._supervisor.close()
            if self._owns_ray:
                ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _results(self, call: Call) -> Iterator[Any]:
        try:
            while True:
                while call.has_next():
                    left = time.monotonic()
                    yield call.pop_next()
                    call.excuse(time.monotonic() - left)
                    if self._call is not call:
                        raise ContractViolation(f"version {call.version}: another call began, or the group was closed")
                if call.schedule.done:
                    return
                self._issue(call)
                self._advance(call)
                self._issue(call)
        finally:
            if self._call is call:
                self._drop_call()

    def _issue(self, call: Call) -> None:
        for assignment in call.schedule.issue():
            worker = self._supervisor.get(assignment.worker)
            if worker is None:
                raise RuntimeError(f"an item was given to worker {assignment.worker}, which is not there")
            call.send(assignment, worker)

    def _advance(self, call: Call) -> None:
        """Waits until something happens, then takes in everything that has."""
        supervisor = self._supervisor
        refs = [*call.refs, *supervisor.starting]
        faults: list[tuple[ObjectRef[Any], Exception]] = []
        for ref in _wait(refs, soonest(supervisor.patience(), call.patience())):
            if ref not in call.refs:
                worker = supervisor.greet(ref)
                if worker is not None:
                    call.schedule.join(worker.id, worker.node)
                continue
            try:
                reply = ray.get(ref)
            except Exception as error:  # sorted by type below; results that came are taken in before losses
                faults.append((ref, error))
                continue
            recovery.accept(call, supervisor, call.take(ref), reply)
        for ref, fault in faults:
            recovery.suffer(call, supervisor, ref, fault)
        recovery.hurry(call, supervisor)
        supervisor.tend()
        for worker in supervisor.leaving:
            call.schedule.retire(worker.id)
        supervisor.check_capacity()

    def _drop_call(self) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            self._timing = call.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ContractViolation("the group is closed")


def soonest(*times: float | None) -> float | None:
    """The shortest of the waits; None waits for ever."""
    return min((time for time in times if time is not None), default=None)


def _wait(refs: list[ObjectRef[Any]], timeout: float | None) -> list[ObjectRef[Any]]:
    """All references that are ready once at least one is; none after ``timeout`` seconds."""
    if not refs:  # every worker waits for its time
        time.sleep(timeout or 0.0)
        return []
    ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
    if ready and len(refs) > 1:
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
    return list(ready)
