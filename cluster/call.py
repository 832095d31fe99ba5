"""The bookkeeping of one ``map_ordered`` call of a ``RayGroup``: what is out, what came, what is next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef

from cluster.actor import Reply
from cluster.deadlines import Deadlines
from cluster.digest import same
from cluster.errors import ResultsDiffer
from cluster.group import Item, StepTiming, Vector
from cluster.schedule import Assignment, Schedule
from cluster.spawn import Worker
from cluster.timing import Interval, union_length

# Below this size Ray sends an argument inside the message, which is faster than one object for all.
_BY_VALUE_BYTES = 100_000


@dataclass(slots=True, frozen=True)
class Sent:
    """An assignment under way, and when it was sent (driver's monotonic clock)."""

    assignment: Assignment
    at: float


class Call:
    """State of one call. Holds the shared object alive until the call is closed."""

    def __init__(
        self, version: int, shared: Vector, items: Sequence[Item], deadlines: Deadlines, *, max_attempts: int
    ) -> None:
        self.version = version
        self.items = list(items)
        self.max_attempts = max_attempts
        self.schedule = Schedule(len(self.items), max_attempts=max_attempts)
        self._deadlines = deadlines
        self.refs: dict[ObjectRef[Any], Sent] = {}
        self._shared: Any = shared.copy() if shared.nbytes < _BY_VALUE_BYTES else ray.put(shared)
        self._results: dict[int, Any] = {}
        self._copied: dict[int, tuple[str, Any]] = {}  # item with two copies -> worker and result of the first
        self._next = 0
        self._since: dict[str, float] = {}  # worker -> when it could begin the oldest item that it has
        self._pings: dict[str, ObjectRef[Any]] = {}
        self._reasons: dict[int, list[str]] = {}
        self._worked: list[Interval] = []
        self._began = time.monotonic()
        self._away = 0.0  # seconds in which the driver looked elsewhere

    def send(self, assignment: Assignment, worker: Worker) -> None:
        """Issues an item to its worker; before a last attempt the worker has to show that it lives."""
        if self.schedule.is_last_attempt(assignment):
            self._pings[assignment.worker] = worker.actor.ping.remote()
        item = self.items[assignment.index]
        at = time.monotonic()
        if self.schedule.running(assignment.worker)[0] == assignment:
            self._since[assignment.worker] = self._clock()
        ref = worker.actor.run.remote(self.version, self._shared, item, assignment.index, assignment.attempt)
        self.refs[ref] = Sent(assignment, at)

    def take(self, ref: ObjectRef[Any]) -> Sent:
        """Removes a reference that has been answered; its worker goes on to the next item."""
        sent = self.refs.pop(ref)
        self.restart_clock(sent.assignment.worker)
        return sent

    def restart_clock(self, worker: str) -> None:
        """The oldest item of the worker has its whole time again."""
        self._since[worker] = self._clock()

    def excuse(self, seconds: float) -> None:
        """Time in which the driver looked elsewhere does not count: an answer may lie there, not fetched yet."""
        self._away += seconds

    def _clock(self) -> float:
        return time.monotonic() - self._away

    def late(self) -> list[tuple[Assignment, float]]:
        """The items that their workers have had for longer than the limit, with the seconds."""
        now = self._clock()
        return [(head, now - since) for head, since, limit in self._heads() if now - since >= limit]

    def patience(self) -> float | None:
        """Seconds until an item can be late; None where nothing is under way."""
        now = self._clock()
        return min((max(0.0, since + limit - now) for _, since, limit in self._heads()), default=None)

    def limit(self, assignment: Assignment) -> float:
        """Seconds that the item may take."""
        return self._deadlines.limit(self.items[assignment.index].kind)

    def _heads(self) -> list[tuple[Assignment, float, float]]:
        """Of each worker the item that it runs, since when, and its limit."""
        running = ((worker, self.schedule.running(worker)) for worker in self._since)
        return [(queue[0], self._since[worker], self.limit(queue[0])) for worker, queue in running if queue]

    def finish(self, sent: Sent, reply: Reply, worker: Worker | None) -> None:
        """Keeps a result until its turn comes; that of a second copy is compared with the first and dropped.

        Raises:
            ResultsDiffer: two workers gave different results for one item.
        """
        index = reply.index
        first = self.schedule.finish(sent.assignment)
        self._deadlines.observe(self.items[index].kind, reply.end - reply.start)
        if not first:
            self._compare(sent.assignment, reply.result)
            return
        self._results[index] = reply.result
        if self.schedule.has_copy(index):
            self._copied[index] = (sent.assignment.worker, reply.result)
        worked = (reply.start, reply.end)
        if worker is not None:
            worker.clock.observe(issued=sent.at, worked=worked, arrived=time.monotonic())
            worked = worker.clock.to_driver(worked)
        self._worked.append(worked)

    def _compare(self, assignment: Assignment, result: Any) -> None:
        before = self._copied.pop(assignment.index, None)
        if before is not None and not same(before[1], result):
            raise ResultsDiffer(
                version=self.version,
                index=assignment.index,
                describe=self.items[assignment.index].describe(),
                workers=(before[0], assignment.worker),
            )

    def is_to_blame(self, worker: str) -> bool:
        """Whether a lost worker's running item is to be charged.

        A worker that died unnoticed between two calls has not even begun its item. Before a last attempt,
        which decides over poison, the worker was asked; without its answer the item is innocent.
        """
        ping = self._pings.pop(worker, None)
        if ping is None:
            return True
        try:
            ray.get(ping, timeout=0)
        except Exception:  # whatever kind: it did not answer
            return False
        return True

    def forget(self, worker: str) -> None:
        """Drops the references to everything a lost worker had."""
        self.refs = {ref: sent for ref, sent in self.refs.items() if sent.assignment.worker != worker}
        self._since.pop(worker, None)

    def note_loss(self, assignment: Assignment, reason: str) -> None:
        """Remembers why an item was charged."""
        self._reasons.setdefault(assignment.index, []).append(f"worker {assignment.worker}, {reason}")

    def reasons(self, index: int) -> tuple[str, ...]:
        """Why an item was charged, each time."""
        return tuple(self._reasons.get(index, ()))

    def has_next(self) -> bool:
        """Whether the next result in item order has come."""
        return self._next in self._results

    def pop_next(self) -> Any:
        """Hands over the next result in item order, keeping no reference to it."""
        self._next += 1
        return self._results.pop(self._next - 1)

    def close(self) -> StepTiming:
        """Drops everything outstanding.

        A worker still finishes the one or two items that it has. They are not cancelled: a cancelled call
        leaves a gap in the actor's sequence, for which Ray lets the next one wait thirty seconds.
        """
        self.refs.clear()
        self._results.clear()
        self._copied.clear()
        self._shared = None
        return StepTiming(
            wall_s=time.monotonic() - self._began,
            busy_any_s=union_length(self._worked),
            busy_total_s=sum(end - start for start, end in self._worked),
        )
