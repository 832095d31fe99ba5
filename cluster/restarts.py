"""When a lost worker may be created again: a budget in a time window, a pause for one that never works. No clock."""

from __future__ import annotations

from collections import deque

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


def pause_before(losses: int) -> float:
    """Seconds to wait before a worker is created again, after so many losses in a row without a result between.

    A worker that worked is replaced at once. One that dies as it starts (a broken machine, a missing library)
    would otherwise burn the budget within a second.

    >>> [pause_before(losses) for losses in (1, 2, 3, 4, 9)]
    [0.0, 1.0, 2.0, 4.0, 60.0]
    """
    return 0.0 if losses < 2 else min(_LONGEST_PAUSE_S, 2.0 ** (losses - 2))
