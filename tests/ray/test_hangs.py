"""Workers that hang: another one does their item, they are replaced, and no bit changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster import Event, RayGroup, RayOptions, ResultsDiffer, ShardPoisoned
from tests.ray.work import SHARED, LiarFactory, SlowStartFactory, StopFactory, expected_bits, pieces

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def options(num_workers: int, **other: float) -> RayOptions:
    # A small factor: also where a busy machine takes half a second for an item, the limit is the least one.
    return RayOptions(num_workers=num_workers, deadline_factor=2, deadline_min_s=1.0, warmup_timeout_s=60.0, **other)  # type: ignore[arg-type]


def learn_limits(group: RayGroup) -> None:
    """A call in which nothing stops: before it, an item has the minute of a first one."""
    group.reduce(4, SHARED, pieces(1))


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_a_stopped_worker_is_copied_then_replaced(tmp_path: Path) -> None:
    """The first miss costs a copy; the second one, in a later call, the worker."""
    events: list[Event] = []
    with RayGroup(StopFactory(2), options(2), events.append) as group:
        group.wait_ready()
        learn_limits(group)
        found = group.reduce(5, SHARED, pieces(8, tmp_path))
        assert found.vector.tobytes() == expected_bits(5, 8)
        reissued = [event.detail for event in events if event.kind == "shard_reissued"]
        # The worker may have stopped with the answer before in its hands: then that item is late, this one behind it.
        late = reissued[0]
        assert late["version"] == 5 and late["attempt"] == 2 and late["index"] <= 2
        assert 2 in {detail["index"] for detail in reissued}
        assert {detail["worker"] for detail in reissued} == {late["worker"]}
        assert "late: no answer for 1." in late["reason"] and "limit 1.0 s" in late["reason"]
        assert group.reduce(6, SHARED, pieces(8)).vector.tobytes() == expected_bits(6, 8)
        lost = next(event.detail for event in events if event.kind == "worker_lost")
        assert lost["worker"] == late["worker"] and "no answer for" in lost["reason"]
        group.wait_ready(2)
        assert late["worker"] not in group.worker_pids()
        assert group.reduce(7, SHARED, pieces(8)).vector.tobytes() == expected_bits(7, 8)


def test_the_only_worker_is_replaced(tmp_path: Path) -> None:
    events: list[Event] = []
    with RayGroup(StopFactory(1), options(1), events.append) as group:
        learn_limits(group)
        found = group.reduce(5, SHARED, pieces(4, tmp_path))
    assert found.vector.tobytes() == expected_bits(5, 4)
    assert kinds(events).count("worker_lost") == 1
    reissued = [event.detail for event in events if event.kind == "shard_reissued"]
    # It stops in item 1, and may have the answer to item 0 still in its hands.
    assert [detail["index"] for detail in reissued] in ([1, 2], [0, 1]), "the oldest unanswered, then the one behind it"
    assert all("no answer for" in detail["reason"] for detail in reissued)


def test_an_item_that_always_hangs_is_poisoned(tmp_path: Path) -> None:
    with RayGroup(StopFactory(1, times=99), options(2, max_attempts=2)) as group:
        learn_limits(group)
        with pytest.raises(ShardPoisoned, match=r"piece 1 of train.*no answer for"):
            group.reduce(5, SHARED, pieces(4, tmp_path))


def test_a_slow_start_is_not_late(tmp_path: Path) -> None:
    """Three limits pass while the workers are built; nothing is under way meanwhile."""
    events: list[Event] = []
    with RayGroup(SlowStartFactory(3.0), options(2), events.append) as group:
        assert group.reduce(5, SHARED, pieces(4)).vector.tobytes() == expected_bits(5, 4)
    assert "shard_reissued" not in kinds(events) and "worker_lost" not in kinds(events)


def test_copies_that_differ_stop_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    with (
        RayGroup(LiarFactory(), options(2)) as group,
        pytest.raises(ResultsDiffer, match=r"item 0 \(piece 0 of train\) gave different bits on workers"),
    ):
        group.reduce(5, SHARED, pieces(3, tmp_path))
