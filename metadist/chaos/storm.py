"""What is to go wrong, and when: drawn from a seed, decided without a clock of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Faults to inject into a run; nothing by default.

    Attributes:
        kill_workers_every: Seconds between SIGKILLs of workers, on average.
        stop_workers_every: Seconds between SIGSTOPs of workers, on average: they hang and never raise.
        at_once: At most so many workers are hit at one moment.
        kill_driver_at: Steps after which the driver gets SIGKILL; each time ``--resume`` goes on.
        tracking_outage_s: The tracking server hangs for so many seconds, from the first step on.
        seed: Of the moments and the victims.
    """

    kill_workers_every: float | None = None
    stop_workers_every: float | None = None
    at_once: int = 1
    kill_driver_at: tuple[int, ...] = ()
    tracking_outage_s: float | None = None
    seed: int = 0


@dataclass(slots=True)
class Forecast:
    """The random part of a storm: when the next blow falls, and on whom.

    >>> forecast = Forecast(every=2.0, at_once=2, seed=0)
    >>> forecast.is_due(0.0), forecast.is_due(100.0)
    (False, True)
    >>> len(forecast.victims(["a", "b", "c"])) in (1, 2)
    True
    """

    every: float | None
    at_once: int
    seed: int
    _random: random.Random = field(init=False)
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._next = float("inf") if self.every is None else self._wait()

    def is_due(self, now: float) -> bool:
        """Whether a blow falls by ``now``, in seconds since the storm began; the next one is drawn then."""
        if now < self._next:
            return False
        self._next = now + self._wait()
        return True

    def victims(self, workers: Sequence[str]) -> list[str]:
        """Who is hit."""
        count = min(len(workers), self._random.randint(1, self.at_once))
        return self._random.sample(list(workers), count)

    def _wait(self) -> float:
        assert self.every is not None
        return self.every * self._random.uniform(0.5, 1.5)
