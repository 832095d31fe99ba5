"""How long an item may take before it counts as late: a multiple of the median of its kind. No clock in here.

A worker that hangs never raises, so time alone can tell. The median stands for what is normal on this cluster;
a few slow items do not move it.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_REMEMBERED = 64  # durations a kind


class Deadlines:
    """What is normal, learned from the items that came back.

    Args:
        factor: A limit is this multiple of the median.
        least_s: No limit is shorter, in seconds.
        first_s: The limit while nothing of the kind has come back.

    Example:
        >>> deadlines = Deadlines(factor=10, least_s=1, first_s=600)
        >>> deadlines.limit("train")
        600
        >>> for seconds in (0.5, 0.4, 90.0):
        ...     deadlines.observe("train", seconds)
        >>> deadlines.limit("train"), deadlines.limit("evaluate")
        (5.0, 600)
    """

    def __init__(self, *, factor: float, least_s: float, first_s: float) -> None:
        self._factor, self._least_s, self._first_s = factor, least_s, first_s
        self._seen: dict[str, deque[float]] = {}

    def observe(self, kind: str, seconds: float) -> None:
        """An item of ``kind`` took so long."""
        self._seen.setdefault(kind, deque(maxlen=_REMEMBERED)).append(seconds)

    def limit(self, kind: str) -> float:
        """Seconds that an item of ``kind`` may take, from when its worker can begin it."""
        seen = self._seen.get(kind)
        return max(self._least_s, self._factor * median(seen)) if seen else self._first_s
