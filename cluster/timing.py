"""When workers computed, on the driver's clock."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[float, float]
"""(start, end) in seconds of a monotonic clock."""


def union_length(intervals: Iterable[Interval]) -> float:
    """Total length covered by at least one interval.

    Example:
        >>> union_length([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    covered = 0.0
    reached = float("-inf")
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


class ClockOffset:
    """Bounds on how far the driver's clock is ahead of a worker's, narrowed by every round trip.

    Work cannot start before it was issued nor end after it arrived, both on the driver's clock. On one
    machine the two clocks are the same and zero stays possible; between machines it is soon impossible.

    Example:
        >>> offset = ClockOffset()
        >>> offset.observe(issued=100.0, worked=(10.0, 11.0), arrived=101.5)
        >>> offset.to_driver((10.0, 11.0))
        (100.25, 101.25)
    """

    def __init__(self) -> None:
        self._low = float("-inf")
        self._high = float("inf")

    def observe(self, *, issued: float, worked: Interval, arrived: float) -> None:
        """One round trip: ``issued`` and ``arrived`` on the driver's clock, ``worked`` on the worker's."""
        self._low = max(self._low, issued - worked[0])
        self._high = min(self._high, arrived - worked[1])

    def to_driver(self, worked: Interval) -> Interval:
        """An interval of the worker's clock on the driver's."""
        offset = 0.0 if self._low <= 0.0 <= self._high else (self._low + self._high) / 2
        return worked[0] + offset, worked[1] + offset
