"""Keeping the workers of a ``RayGroup`` alive: creating, watching their start, replacing the lost.

Ray never restarts or retries by itself here. A lost worker is replaced by a new actor with a new id, as long
as the budget of restarts in a time window lasts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray import ObjectRef
from ray.actor import ActorHandle, ActorProxy

from cluster.actor import ShardActor, ShardWorker, Started
from cluster.errors import ClusterError, GroupStartTimeout, WorkersLost, WorkerStartFailed
from cluster.failure import Failure
from cluster.faults import describe_fault, is_place_fault
from cluster.group import Event, OnEvent
from cluster.options import RayOptions
from cluster.timing import ClockOffset


class RestartBudget:
    """At most ``limit`` restarts within any ``window_s`` seconds. The clock is the caller's."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._spent: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Takes one restart at the time ``now``; False if none is left."""
        while self._spent and self._spent[0] <= now - self._window_s:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            return False
        self._spent.append(now)
        return True


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One actor and what is known of it."""

    id: str
    slot: int
    actor: ActorProxy[ShardWorker]
    created: float
    started: Started | None = None
    clock: ClockOffset = field(default_factory=ClockOffset)
    misses: int = 0  # limits that it let pass since its last answer


class Supervisor:
    """The actors of one group. Decides who lives; knows nothing of items."""

    def __init__(self, factory: bytes, options: RayOptions, on_event: OnEvent) -> None:
        self._factory = factory
        self._options = options
        self._on_event = on_event
        self._budget = RestartBudget(options.restart_budget, options.restart_window_s)
        self._created = [0] * options.num_workers  # per slot
        self._warm = False  # whether the first warm-up is over
        self._workers: dict[str, Worker] = {}
        self._starting: dict[ObjectRef[Any], Worker] = {}
        self._last_reason = "none"
        for slot in range(options.num_workers):
            self._create(slot)

    @property
    def starting(self) -> list[ObjectRef[Any]]:
        """One reference for each worker that is not ready yet; resolves when it is."""
        return list(self._starting)

    @property
    def warm(self) -> bool:
        """Whether the first warm-up is over: all are ready, or enough are and the time is over."""
        return self._warm

    @property
    def ready(self) -> list[Worker]:
        """The workers that can be given items, in order of creation."""
        return [worker for worker in self._workers.values() if worker.started is not None]

    def get(self, worker: str) -> Worker | None:
        """A worker that has not been lost, by id."""
        return self._workers.get(worker)

    def greet(self, ref: ObjectRef[Any]) -> Worker | None:
        """Takes the answer behind one of ``starting``. None if the worker died instead.

        Raises:
            WorkerStartFailed: the factory raised; it would do so again.
            WorkersLost: it died, cannot be replaced, and too few are left.
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
        self._warm = self._warm or len(self.ready) == self._options.num_workers
        self.tell(
            "worker_started",
            worker=worker.id,
            slot=worker.slot,
            pid=answer.pid,
            node=answer.node,
            startup_s=answer.startup_s,
        )
        return worker

    def lose(self, worker_id: str, reason: str, *, version: int | None) -> None:
        """A worker is dead or of no use: make sure of it, and replace it.

        Raises:
            WorkersLost: it cannot be replaced, and too few are left.
        """
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        self._starting = {ref: other for ref, other in self._starting.items() if other is not worker}
        self._last_reason = reason
        _kill(worker)
        pid = worker.started.pid if worker.started else None
        self.tell("worker_lost", worker=worker.id, slot=worker.slot, pid=pid, version=version, reason=reason)
        if self._budget.spend(time.monotonic()):
            self._create(worker.slot)
            return
        self.tell("worker_not_replaced", worker=worker.id, slot=worker.slot, reason=reason)
        self.check_alive()

    def check_alive(self) -> None:
        """Raises WorkersLost if fewer workers are left than the group needs to go on."""
        alive, needed = len(self._workers), self._options.min_workers or 1
        if alive < needed:
            raise WorkersLost(
                alive=alive,
                needed=needed,
                restarts=self._options.restart_budget,
                window_s=self._options.restart_window_s,
                last_reason=self._last_reason,
            )

    def patience(self) -> float | None:
        """Seconds until ``check_warmup`` has something to say; None: never."""
        if not self._starting or (self._warm and self.ready):
            return None
        return max(0.0, self._deadline() - time.monotonic())

    def check_warmup(self) -> None:
        """Ends the wait for workers that do not become ready.

        Raises:
            GroupStartTimeout: the time is over and too few are ready.
        """
        if self.patience() != 0.0:
            return
        options, ready = self._options, len(self.ready)
        needed = workers_needed(options, warm=self._warm)
        has = describe_resources()
        if ready < needed:
            raise GroupStartTimeout(
                ready=ready,
                needed=needed,
                timeout_s=options.warmup_timeout_s,
                asked=options.describe(),
                has=has,
            )
        self._warm = True
        self.tell("workers_missing", ready=ready, asked=options.describe(), has=has)

    def close(self) -> None:
        """Kills every worker."""
        for worker in self._workers.values():
            _kill(worker)
        self._workers.clear()
        self._starting.clear()

    def _deadline(self) -> float:
        return min(worker.created for worker in self._starting.values()) + self._options.warmup_timeout_s

    def _create(self, slot: int) -> None:
        options = self._options
        generation, self._created[slot] = self._created[slot], self._created[slot] + 1
        worker_id = f"w{slot}" if generation == 0 else f"w{slot}.{generation}"
        settings: dict[str, Any] = {
            "num_cpus": options.cpus_per_worker,
            "num_gpus": options.gpus_per_worker,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        if options.env_vars:
            settings["runtime_env"] = {"env_vars": dict(options.env_vars)}
        actor: ActorProxy[ShardWorker] = ShardActor.options(**settings).remote(worker_id, slot)
        worker = Worker(id=worker_id, slot=slot, actor=actor, created=time.monotonic())
        self._workers[worker_id] = worker
        self._starting[actor.start.remote(self._factory)] = worker

    def _refuse(self, worker: Worker, failure: Failure) -> None:
        if failure.place:
            self.lose(worker.id, f"{failure.error_type}: {failure.message}", version=None)
            return
        error: ClusterError = WorkerStartFailed(
            worker=worker.id,
            error_type=failure.error_type,
            message=failure.message,
            remote_traceback=failure.remote_traceback,
        )
        raise error from failure.original()

    def tell(self, kind: str, **detail: Any) -> None:
        """Tell whoever keeps the journal."""
        self._on_event(Event(kind=kind, detail=detail))


def workers_needed(options: RayOptions, *, warm: bool) -> int:
    """How many workers must be ready when a warm-up time is over; ``warm``: after the first one."""
    return options.min_workers or (1 if warm else options.num_workers)


def _kill(worker: Worker) -> None:
    ray.kill(cast("ActorHandle[Any]", worker.actor))  # ActorProxy is the same object, typed


def describe_resources() -> str:
    """What the cluster has, for messages: ``2 CPU (0 free), 1 GPU (1 free)``."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    parts = [f"{total.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    return ", ".join(parts)


def pids(workers: Sequence[Worker]) -> dict[str, int]:
    """Worker id -> process id, of those that are ready."""
    return {worker.id: worker.started.pid for worker in workers if worker.started is not None}
