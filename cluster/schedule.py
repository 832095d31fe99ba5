"""Which item runs where: a state machine without Ray and without a clock.

Each item is pending, running or done. Items are issued lowest index first, breadth-first: to the worker
with the fewest items in flight, at most ``in_flight`` each (the second hides the round trip).

A worker runs its items in the order of issue. When it is lost, the oldest one was running and is *charged*
with the loss; those queued behind it go back without a charge. An item with ``max_attempts`` charges is
poisoned. Its last attempt runs alone on its node, so that nothing else can be the reason.

An item that is late gets a second copy on another worker. The first result counts; the other copy is void.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from cluster.errors import ContractViolation


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run of one item: the ``attempt``-th (from 1) of item ``index``, on ``worker``."""

    index: int
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class Setback:
    """What a loss did: items that came back (void assignments without another copy), charged and poisoned ones."""

    returned: tuple[Assignment, ...] = ()
    charged: tuple[Assignment, ...] = ()
    poisoned: tuple[int, ...] = ()


class Schedule:
    """The state of one call over ``num_items`` items.

    Example:
        >>> schedule = Schedule(3)
        >>> schedule.join("a"), schedule.join("b")
        (None, None)
        >>> [(a.index, a.worker) for a in schedule.issue()]
        [(0, 'a'), (1, 'b'), (2, 'a')]
        >>> [a.index for a in schedule.lose("a").returned]
        [0, 2]
        >>> [(a.index, a.attempt, a.worker) for a in schedule.issue()]
        [(0, 2, 'b')]
    """

    def __init__(self, num_items: int, *, in_flight: int = 2, max_attempts: int = 3) -> None:
        self._in_flight = in_flight
        self._max_attempts = max_attempts
        self._pending = list(range(num_items))  # a heap; sorted, so it is one
        self._attempts = [0] * num_items
        self._charges = [0] * num_items
        self._tried: dict[int, set[str]] = {}  # only for items that came back
        self._queues: dict[str, list[Assignment]] = {}  # worker -> running, then queued
        self._nodes: dict[str, str] = {}  # worker -> node
        self._retired: set[str] = set()
        self._last: set[int] = set()  # items on their last attempt, of several
        self._done = [False] * num_items
        self._unfinished = num_items

    @property
    def done(self) -> bool:
        """Whether every item has a result."""
        return self._unfinished == 0

    def join(self, worker: str, node: str | None = None) -> None:
        """A worker is ready on ``node``; None: alone there. Raises ContractViolation if it is there already."""
        if worker in self._queues:
            raise ContractViolation(f"worker {worker} joined twice")
        self._queues[worker] = []
        self._nodes[worker] = f"of {worker}" if node is None else node

    def retire(self, worker: str) -> None:
        """The worker finishes what it has and gets nothing more."""
        self._retired.add(worker)

    def running(self, worker: str) -> tuple[Assignment, ...]:
        """What the worker has in flight, oldest first; empty if it is unknown."""
        return tuple(self._queues.get(worker, ()))

    def is_last_attempt(self, assignment: Assignment) -> bool:
        """Whether one more charge would poison the item."""
        return self._charges[assignment.index] == self._max_attempts - 1

    def issue(self) -> list[Assignment]:
        """Everything that can be issued now."""
        issued: list[Assignment] = []
        while self._pending:
            if self._done[self._pending[0]]:  # it came after all
                heapq.heappop(self._pending)
                continue
            worker = self._choose(self._pending[0])
            if worker is None:
                break
            index = heapq.heappop(self._pending)
            self._attempts[index] += 1
            assignment = Assignment(index, self._attempts[index], worker)
            self._queues[worker].append(assignment)
            issued.append(assignment)
        return issued

    def finish(self, assignment: Assignment) -> bool:
        """A result came. False if it is void: its worker was lost, or another copy was faster."""
        queue = self._queues.get(assignment.worker, [])
        if assignment not in queue:
            return False
        queue.remove(assignment)
        if self._done[assignment.index]:
            return False
        self._done[assignment.index] = True
        self._unfinished -= 1
        return True

    def copy(self, assignment: Assignment) -> bool:
        """The assignment is late: have another worker try its item, too. False if one does, or waits to."""
        index = assignment.index
        if self._done[index] or index in self._pending or len(self._holders(index)) != 1:
            return False
        self._tried.setdefault(index, set()).add(assignment.worker)
        heapq.heappush(self._pending, index)
        return True

    def lose(self, worker: str, *, charge: bool = True) -> Setback:
        """A worker is gone. With ``charge`` the item it was running is held responsible."""
        return self._give_back(self._queues.pop(worker, []), charge=charge)

    def fail(self, assignment: Assignment) -> Setback:
        """One item failed for its place while the worker lives. Charged."""
        queue = self._queues.get(assignment.worker, [])
        if assignment not in queue:
            return Setback()
        queue.remove(assignment)
        return self._give_back([assignment], charge=True)

    def _give_back(self, queue: list[Assignment], *, charge: bool) -> Setback:
        """Makes the items of void assignments pending again, but for those that need it not; the first is charged."""
        returned: list[Assignment] = []
        charged: list[Assignment] = []
        poisoned: list[int] = []
        for position, assignment in enumerate(queue):
            index = assignment.index
            if self._done[index]:
                continue
            self._tried.setdefault(index, set()).add(assignment.worker)
            if charge and position == 0:
                self._charges[index] += 1
                charged.append(assignment)
            if self._charges[index] >= self._max_attempts:
                poisoned.append(index)
                returned.append(assignment)
                continue
            if self._charges[index] == self._max_attempts - 1 > 0:
                self._last.add(index)
            if index in self._pending or self._holders(index):
                continue  # another copy is under way
            heapq.heappush(self._pending, index)
            returned.append(assignment)
        return Setback(tuple(returned), tuple(charged), tuple(poisoned))

    def has_copy(self, index: int) -> bool:
        """Whether a worker has the item still."""
        return bool(self._holders(index))

    def _holders(self, index: int) -> list[str]:
        """The workers that have a copy of the item."""
        return [worker for worker, queue in self._queues.items() if any(a.index == index for a in queue)]

    def _choose(self, index: int) -> str | None:
        """The worker for an item: one that has not tried it, then the least loaded, then the first to join.

        An item on its last attempt waits for an idle node, and nothing else is issued before it, so that it
        cannot starve.
        """
        alone = index in self._last
        tried = self._tried.get(index, ())
        busy, reserved = self._busy_nodes()
        best: tuple[bool, int] | None = None
        chosen: str | None = None
        for worker, queue in self._queues.items():
            node = self._nodes[worker]
            if worker in self._retired or len(queue) >= self._in_flight or node in reserved or (alone and node in busy):
                continue
            if any(a.index == index for a in queue):
                continue  # two copies on one worker are no help
            rank = (worker in tried, len(queue))
            if best is None or rank < best:
                best, chosen = rank, worker
        return chosen

    def _busy_nodes(self) -> tuple[set[str], set[str]]:
        """Nodes where something runs, and those where an item on its last attempt does, which stays alone."""
        if not self._last:  # as a rule
            return set(), set()
        has = {worker: {a.index for a in queue} for worker, queue in self._queues.items() if queue}
        return set(map(self._nodes.__getitem__, has)), {self._nodes[w] for w in has if has[w] & self._last}
