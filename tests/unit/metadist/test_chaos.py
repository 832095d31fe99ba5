"""Chaos on purpose: when blows fall, on whom, and what the journal says of them."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

import pytest

from metadist.chaos.driver import Observed, signal_worker
from metadist.chaos.qualify import Verdict
from metadist.chaos.storm import Forecast
from metadist.commands.chaos import seconds
from metadist.errors import UsageError


def blows(seed: int, until: float) -> list[float]:
    forecast = Forecast(every=2.0, at_once=1, seed=seed)
    return [tick / 10 for tick in range(int(until * 10)) if forecast.is_due(tick / 10)]


def test_blows_fall_about_as_often_as_asked() -> None:
    times = blows(seed=0, until=200)
    assert 80 <= len(times) <= 130
    assert all(0.9 <= later - sooner <= 3.2 for sooner, later in pairwise(times))


def test_a_seed_decides_the_storm() -> None:
    assert blows(1, 50) == blows(1, 50) != blows(2, 50)


def test_no_storm() -> None:
    assert not Forecast(every=None, at_once=1, seed=0).is_due(1e9)


def test_victims_are_different_workers_and_at_most_so_many() -> None:
    forecast = Forecast(every=1.0, at_once=3, seed=0)
    for _ in range(50):
        hit = forecast.victims(["a", "b", "c", "d"])
        assert 1 <= len(hit) <= 3 and len(set(hit)) == len(hit)
    assert forecast.victims([]) == []


def test_what_the_journal_says() -> None:
    seen = Observed()
    started = {"name": "worker_started", "node": "n"}
    for data in ({**started, "worker": "w0", "pid": 1}, {**started, "worker": "w1", "pid": 2}):
        seen.take("event", None, data)
    seen.take("metrics", 7, {})
    seen.take("event", None, {"name": "shard_reissued"})
    seen.take("event", None, {"name": "worker_lost", "worker": "w0"})
    assert (seen.step, seen.workers, seen.reissued, seen.lost) == (7, {"w1": (2, "n")}, 1, 1)
    seen.take("event", 5, {"name": "resumed"})
    assert seen.workers == {}, "the workers of a killed driver are gone, and their ids may be another program's"


def test_only_workers_are_hit() -> None:
    assert signal_worker(os.getpid(), signal.SIGKILL) is False
    assert signal_worker(2**22 + 1, signal.SIGKILL) is False


@pytest.mark.parametrize("text", ["fast", "s", "-3s", "0"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="time"):
        seconds(text)


def test_a_run_that_lost_nothing_was_not_hit() -> None:
    calm = Verdict(
        equal=True, undisturbed="a", disturbed="a", workers_killed=3, workers_stopped=0, driver_kills=0,
        workers_lost=0, shards_reissued=0, unsent_events=0, wall_s=1.0, disturbed_wall_s=1.0,
    )  # fmt: skip
    assert not calm.was_hit
