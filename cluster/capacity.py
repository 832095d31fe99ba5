"""Whether a group has the workers that it needs, and how long it may be short of them. No clock in here."""

from __future__ import annotations

from cluster.options import RayOptions


class Capacity:
    """At first a group waits for all that it asked for, later only for as many as it cannot do without.

    Attributes:
        warm: Whether the first wait is over.

    Example:
        >>> capacity = Capacity(RayOptions(num_workers=2, warmup_timeout_s=60, capacity_timeout_s=5), now=0)
        >>> capacity.observe(ready=1, coming=True, now=1)
        >>> capacity.warm, capacity.needed, capacity.deadline
        (False, 2, 60)
        >>> capacity.observe(ready=2, coming=False, now=2)
        >>> capacity.warm, capacity.needed, capacity.deadline
        (True, 1, None)
        >>> capacity.observe(ready=0, coming=True, now=10)
        >>> capacity.deadline
        15
    """

    def __init__(self, options: RayOptions, now: float) -> None:
        self.warm = False
        self._options = options
        self._short_since: float | None = now

    @property
    def needed(self) -> int:
        """How many workers must be ready when the wait is over."""
        return workers_needed(self._options, warm=self.warm)

    @property
    def patience_s(self) -> float:
        """How long the wait lasts."""
        return self._options.capacity_timeout_s if self.warm else self._options.warmup_timeout_s

    @property
    def deadline(self) -> float | None:
        """When the wait is over; None while nothing is waited for."""
        return None if self._short_since is None else self._short_since + self.patience_s

    def observe(self, *, ready: int, coming: bool, now: float) -> None:
        """So many workers are ready; ``coming``: more are being started, or soon will be."""
        if not self.warm and (ready >= self._options.num_workers or not coming):
            self.accept()
        if self.warm:
            self._short_since = None if ready >= self.needed else self._short_since or now

    def accept(self) -> None:
        """The first wait is over with what there is."""
        self.warm, self._short_since = True, None

    def begin_again(self, now: float) -> None:
        """Wait once more."""
        self._short_since = now


def workers_needed(options: RayOptions, *, warm: bool) -> int:
    """How many workers must be ready when a wait is over; ``warm``: after the first one."""
    return options.min_workers or (1 if warm else options.num_workers)
