"""Who may be a worker: one that agrees with the others, one that starts, as many as there is room for."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from cluster import Canary, Event, GroupStartTimeout, RayGroup, RayOptions, WorkersLost
from cluster.digest import digest
from tests.ray.work import (
    SHARED,
    OddFactory,
    RaiseFactory,
    StillbornFactory,
    expected_bits,
    number_factory,
    numbers,
    pieces,
    told,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CANARY = Canary(version=0, shared=SHARED, item=pieces(1)[0])
RIGHT = Canary(version=0, shared=SHARED, item=pieces(1)[0], expected=digest(numbers(0, SHARED, pieces(1)[0])))


def test_a_worker_with_other_bits_is_sent_away(tmp_path: Path) -> None:
    events: list[Event] = []
    with RayGroup(OddFactory(str(tmp_path)), RayOptions(num_workers=2), events.append, RIGHT) as group:
        assert group.reduce(5, SHARED, pieces(6)).vector.tobytes() == expected_bits(5, 6)
        group.wait_ready(2)
        assert group.reduce(6, SHARED, pieces(6)).vector.tobytes() == expected_bits(6, 6)
    (lost,) = told(events, "worker_lost")
    assert "its canary shard gave other bits" in lost["reason"] and str(RIGHT.expected) in lost["reason"]
    assert {started["canary"] for started in told(events, "worker_started")} == {RIGHT.expected}


def test_of_two_that_disagree_one_stays(tmp_path: Path) -> None:
    """Nothing is known from before: the first one to be ready sets the bits, and no shard mixes them."""
    events: list[Event] = []
    with RayGroup(OddFactory(str(tmp_path)), RayOptions(num_workers=2, max_restarts=0), events.append, CANARY) as group:
        group.wait_ready()
        found = group.reduce(5, SHARED, pieces(6)).vector.tobytes()
        assert len(group.worker_pids()) == 1
    assert len(told(events, "worker_lost")) == 1
    assert found in (expected_bits(5, 6), expected_bits(6, 6))


def test_mixed_numerics_are_taken_on_when_asked_for(tmp_path: Path) -> None:
    events: list[Event] = []
    options = RayOptions(num_workers=2, allow_mixed_numerics=True)
    with RayGroup(OddFactory(str(tmp_path)), options, events.append, RIGHT) as group:
        group.wait_ready()
    assert not told(events, "worker_lost")
    assert len({started["canary"] for started in told(events, "worker_started")}) == 2


def test_when_all_differ_from_what_is_known_the_message_says_so() -> None:
    wrong = Canary(version=0, shared=SHARED, item=pieces(1)[0], expected="0123456789abcdef")
    with (
        RayGroup(number_factory, RayOptions(num_workers=2, max_restarts=0), canary=wrong) as group,
        pytest.raises(WorkersLost, match="canary shard gave other bits"),
    ):
        group.reduce(5, SHARED, pieces(4))


def test_a_canary_that_raises_is_left_to_the_shard() -> None:
    """The shard raises the same, with its name and its traceback."""
    with RayGroup(RaiseFactory(0, "value"), RayOptions(num_workers=2), canary=CANARY) as group:
        group.wait_ready()
        with pytest.raises(Exception, match=r"item 0 .*a wrong value"):
            group.reduce(5, SHARED, pieces(4))


def test_a_worker_that_dies_as_it_starts_is_tried_after_growing_pauses(tmp_path: Path) -> None:
    events: list[Event] = []
    with RayGroup(StillbornFactory(str(tmp_path), 3), RayOptions(num_workers=1), events.append) as group:
        assert group.reduce(5, SHARED, pieces(4)).vector.tobytes() == expected_bits(5, 4)
    assert [delayed["delay_s"] for delayed in told(events, "worker_delayed")] == [1.0, 2.0]


def test_work_waits_for_room_and_ends_when_none_comes() -> None:
    """A second group takes the room of a worker that died; when it leaves, the first goes on."""
    large = {"num_workers": 1, "cpus_per_worker": 3, "capacity_timeout_s": 2.0}
    events: list[Event] = []
    with RayGroup(number_factory, RayOptions(**large), events.append) as group:  # type: ignore[arg-type]
        group.wait_ready()
        with RayGroup(number_factory, RayOptions(**large)) as other:  # type: ignore[arg-type]
            (pid,) = group.worker_pids().values()
            os.kill(pid, signal.SIGKILL)
            other.wait_ready()
            with pytest.raises(GroupStartTimeout, match=r"0 of 1 needed workers .* after 2 s.*Last loss: .*ActorDied"):
                group.reduce(5, SHARED, pieces(4))
        while not group.worker_pids():  # who asks again waits again
            with suppress(GroupStartTimeout):
                group.wait_ready(1)
        assert group.reduce(6, SHARED, pieces(4)).vector.tobytes() == expected_bits(6, 4)


def test_more_workers_join_when_there_is_room() -> None:
    events: list[Event] = []
    options = RayOptions(num_workers=1, max_workers=3, cpus_per_worker=1.5)
    with RayGroup(number_factory, options, events.append) as group:
        group.wait_ready(2)
        assert group.reduce(5, SHARED, pieces(8)).vector.tobytes() == expected_bits(5, 8)
        assert len(group.worker_pids()) == 2, "there is no room for a third"
    assert not told(events, "workers_missing")
