"""Keeping the workers of a ``RayGroup`` alive: watching their start, replacing the lost, leaving nodes that go.

Ray never restarts or retries by itself here. A lost worker is replaced by a new actor with a new id, as long
as the budget of restarts in a time window lasts. Slots for which the cluster has no room stay asked for, so that
workers join as nodes do.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import ray
from ray import ObjectRef

from cluster.actor import Started
from cluster.capacity import Capacity, workers_needed
from cluster.errors import ClusterError, GroupStartTimeout, WorkersLost, WorkerStartFailed
from cluster.failure import Failure
from cluster.faults import describe_fault, is_place_fault
from cluster.group import Event, OnEvent
from cluster.nodes import Strikes, describe_resources, draining
from cluster.options import RayOptions
from cluster.restarts import Vacancies
from cluster.spawn import Worker, kill, spawn

_LOOK_EVERY_S = 2.0  # at the nodes


class Supervisor:
    """The actors of one group. Decides who lives; knows nothing of items.

    Args:
        pickled: the pair of factory and canary; by reference where it is large.
        options: how many and where.
        expected: what the canary gave in an earlier group.
        on_event: told of everything that happens to workers.
    """

    def __init__(
        self, pickled: bytes | ObjectRef[bytes], options: RayOptions, expected: str | None, on_event: OnEvent
    ) -> None:
        self._pickled = pickled
        self._options = options
        self._canary = expected
        self._on_event = on_event
        self._vacancies = Vacancies(options)
        self._strikes = Strikes()
        self._created = [0] * options.slots
        self._workers: dict[str, Worker] = {}
        self._starting: dict[ObjectRef[Any], Worker] = {}
        self._capacity = Capacity(options, monotonic())
        self._looked = monotonic()
        self._last_reason = "none"
        for slot in range(options.slots):
            self._create(slot)

    @property
    def starting(self) -> list[ObjectRef[Any]]:
        """One reference for each worker that is not ready yet; resolves when it is."""
        return list(self._starting)

    @property
    def warm(self) -> bool:
        """Whether the first warm-up is over: all are ready, or enough are and the time is over."""
        return self._capacity.warm

    @property
    def coming(self) -> bool:
        """Whether a worker is being started, or soon will be."""
        return bool(self._starting or self._vacancies.coming)

    @property
    def ready(self) -> list[Worker]:
        """The workers that can be given items, in order of creation; on nodes that go only where no other is."""
        started = [worker for worker in self._workers.values() if worker.started is not None]
        return [worker for worker in started if not worker.leaving] or started

    @property
    def leaving(self) -> list[Worker]:
        """The workers on nodes that go, where others can take their work."""
        going = [worker for worker in self._workers.values() if worker.leaving]
        return [worker for worker in going if worker not in self.ready]

    def get(self, worker: str) -> Worker | None:
        """A worker that has not been lost, by id."""
        return self._workers.get(worker)

    def answered(self, worker: Worker) -> None:
        """It gave a result: neither it nor its node is to be suspected."""
        worker.misses = 0
        self._vacancies.answered(worker.slot)
        self._strikes.answered(worker.node)

    def greet(self, ref: ObjectRef[Any]) -> Worker | None:
        """Takes the answer behind one of ``starting``. None if the worker died, or gives other bits.

        Raises:
            WorkerStartFailed: the factory raised, and no worker is there that did start.
            WorkersLost: it cannot be replaced, and too few are left.
        """
        worker = self._starting.pop(ref, None)
        if worker is None:  # it was lost meanwhile
            return None
        try:
            answer = ray.get(ref)
        except Exception as error:
            if not is_place_fault(error):
                raise
            self.lose(worker.id, describe_fault(error), version=None)
            return None
        if isinstance(answer, Failure):
            self._refuse(worker, answer)
            return None
        worker.started = answer
        if not self._agrees(worker, answer):
            return None
        self._observe()
        self.tell(
            "worker_started",
            worker=worker.id,
            slot=worker.slot,
            pid=answer.pid,
            node=answer.node,
            startup_s=answer.startup_s,
            canary=answer.canary,
        )
        return worker

    def lose(self, worker_id: str, reason: str, *, version: int | None, strikes: int = 1) -> None:
        """A worker is dead or of no use: make sure of it, and replace it.

        Raises:
            WorkersLost: it cannot be replaced, and too few are left.
        """
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        self._starting = {ref: other for ref, other in self._starting.items() if other is not worker}
        self._last_reason = reason
        kill(worker)
        pid = worker.started.pid if worker.started else None
        self.tell("worker_lost", worker=worker.id, slot=worker.slot, pid=pid, version=version, reason=reason)
        if worker.leaving:  # another has its slot
            return
        now = monotonic()
        if worker.node:
            self._strike(worker.node, now, strikes, reason)
        pause = self._vacancies.lost(worker.slot, now)
        if pause is None:
            self.tell("worker_not_replaced", worker=worker.id, slot=worker.slot, reason=reason)
            self.check_alive()
            return
        if pause:
            self.tell("worker_delayed", slot=worker.slot, delay_s=pause)
        self._recreate(now)

    def check_alive(self) -> None:
        """Raises WorkersLost if fewer workers are left than the group needs to go on."""
        alive = sum(not worker.leaving for worker in self._workers.values()) + self._vacancies.coming
        needed = workers_needed(self._options, warm=True)
        if alive < needed:
            raise WorkersLost(
                alive=alive,
                needed=needed,
                restarts=self._options.restart_budget,
                window_s=self._options.restart_window_s,
                last_reason=self._last_reason,
            )

    def tend(self) -> None:
        """Creates the workers whose time has come, and looks for nodes that go."""
        now = monotonic()
        self._recreate(now)
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            going = draining()
            for worker in [w for w in self._workers.values() if w.node in going and not w.leaving]:
                worker.leaving = True
                self.tell("worker_leaving", worker=worker.id, slot=worker.slot, node=worker.node)
                self._create(worker.slot)

    def release(self) -> None:
        """Ends the workers that have left; they have nothing to do any more."""
        for worker in self.leaving:
            del self._workers[worker.id]
            kill(worker)

    def patience(self) -> float | None:
        """Seconds until ``tend`` or ``check_capacity`` has something to do; None: never."""
        times = self._vacancies.times
        self._observe()
        if self._capacity.deadline is not None:
            times.append(self._capacity.deadline)
        return max(0.0, min(times) - monotonic()) if times else None

    def check_capacity(self) -> None:
        """Ends the wait for workers that do not become ready.

        Raises:
            GroupStartTimeout: the time is over and too few are ready.
        """
        self._observe()
        capacity, options, ready = self._capacity, self._options, len(self.ready)
        if capacity.deadline is None or monotonic() < capacity.deadline:
            return
        asked, has = options.describe(), describe_resources()
        if ready < capacity.needed:
            capacity.begin_again(monotonic())  # who asks again waits again
            raise GroupStartTimeout(
                ready=ready,
                needed=capacity.needed,
                timeout_s=capacity.patience_s,
                asked=asked,
                has=has,
                last=self._last_reason,
            )
        capacity.accept()
        self.tell("workers_missing", ready=ready, asked=asked, has=has)

    def close(self) -> None:
        """Kills every worker."""
        for worker in self._workers.values():
            kill(worker)
        self._workers.clear()
        self._starting.clear()

    def tell(self, kind: str, **detail: Any) -> None:
        """Tell whoever keeps the journal."""
        self._on_event(Event(kind=kind, detail=detail))

    def _observe(self) -> None:
        self._capacity.observe(ready=len(self.ready), coming=self.coming, now=monotonic())

    def _recreate(self, now: float) -> None:
        for slot in self._vacancies.due(now):
            self._create(slot)

    def _create(self, slot: int) -> None:
        worker = spawn(slot, self._created[slot], self._options, self._strikes.avoided(monotonic()))
        self._created[slot] += 1
        self._workers[worker.id] = worker
        self._starting[worker.actor.start.remote(self._pickled)] = worker

    def _strike(self, node: str, now: float, strikes: int, reason: str) -> None:
        before = self._strikes.avoided(now)
        self._strikes.lost(node, now, strikes=strikes)
        if node in self._strikes.avoided(now) and node not in before:
            self.tell("node_avoided", node=node, reason=reason)

    def _agrees(self, worker: Worker, started: Started) -> bool:
        """Whether the worker's canary gave the same bits as the first one's; else it is sent away."""
        if started.canary is None or self._options.allow_mixed_numerics:
            return True
        self._canary = self._canary or started.canary
        if started.canary == self._canary:
            return True
        self._strikes.wrong(started.node)
        reason = (
            f"its canary shard gave other bits ({started.canary}) than the first worker's ({self._canary}): other "
            f"processors or libraries on node {started.node[:12]}, or a model that draws from a global generator"
        )
        self.lose(worker.id, reason, version=None)
        return False

    def _refuse(self, worker: Worker, failure: Failure) -> None:
        if failure.place or self.ready:  # where others have started, it is the place
            self.lose(worker.id, f"{failure.error_type}: {failure.message}", version=None)
            return
        error: ClusterError = WorkerStartFailed(
            worker=worker.id,
            error_type=failure.error_type,
            message=failure.message,
            remote_traceback=failure.remote_traceback,
        )
        raise error from failure.original()
