"""When a lost worker may be created again: a budget in a time window, a pause for one that never works. No clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from cluster.options import RayOptions

_LONGEST_PAUSE_S = 60.0


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

    def renewed(self) -> float | None:
        """When there is one again, at the latest; None: never."""
        return self._spent[0] + self._window_s if self._limit else None


class Vacancies:
    """The slots that are without a worker, and when each gets another. The clock is the caller's.

    >>> vacancies = Vacancies(RayOptions(num_workers=2, max_restarts=1, restart_window_s=60))
    >>> vacancies.lost(0, now=0), vacancies.lost(1, now=1)
    (0.0, None)
    >>> vacancies.coming, list(vacancies.due(now=1)), vacancies.times, list(vacancies.due(now=60))
    (1, [0], [60], [1])
    """

    def __init__(self, options: RayOptions) -> None:
        self._budget = RestartBudget(options.restart_budget, options.restart_window_s)
        self._losses = [0] * options.slots  # in a row, without a result between
        self._due: dict[int, float] = {}  # slot -> when its worker is created again
        self._unpaid: list[int] = []  # slots that wait for the budget

    @property
    def coming(self) -> int:
        """How many slots get another worker, now or after a pause."""
        return len(self._due)

    @property
    def times(self) -> list[float]:
        """When something is due, or a restart can be paid for again."""
        renewed = self._budget.renewed() if self._unpaid else None
        return [*self._due.values(), *([] if renewed is None else [renewed])]

    def lost(self, slot: int, now: float) -> float | None:
        """A slot lost its worker; the pause before it gets another, in seconds. None: it waits for the budget."""
        self._losses[slot] += 1
        if not self._budget.spend(now):
            self._unpaid.append(slot)
            return None
        pause = pause_before(self._losses[slot])
        self._due[slot] = now + pause
        return pause

    def answered(self, slot: int) -> None:
        """Its worker gave a result."""
        self._losses[slot] = 0

    def due(self, now: float) -> Iterator[int]:
        """The slots whose workers are to be created now; each is vacant until it is taken."""
        while self._unpaid and self._budget.spend(now):
            self._due[self._unpaid.pop()] = now
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            del self._due[slot]
            yield slot


def pause_before(losses: int) -> float:
    """Seconds to wait before a worker is created again, after so many losses in a row without a result between.

    A worker that worked is replaced at once. One that dies as it starts (a broken machine, a missing library)
    would otherwise burn the budget within a second.

    >>> [pause_before(losses) for losses in (1, 2, 3, 4, 9)]
    [0.0, 1.0, 2.0, 4.0, 60.0]
    """
    return 0.0 if losses < 2 else min(_LONGEST_PAUSE_S, 2.0 ** (losses - 2))
