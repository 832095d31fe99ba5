"""Restart budget, warm-up rule, clocks and the sorting of faults: decisions that need no Ray."""

from __future__ import annotations

import pytest
import ray.exceptions as rex
from hypothesis import given
from hypothesis import strategies as st

from cluster import RayOptions
from cluster.capacity import Capacity, workers_needed
from cluster.faults import describe_fault, is_place_fault, is_worker_fault
from cluster.nodes import Strikes, placement
from cluster.restarts import RestartBudget, pause_before
from cluster.timing import ClockOffset, union_length


def test_the_budget_is_for_a_window_of_time() -> None:
    budget = RestartBudget(2, window_s=10.0)
    assert [budget.spend(now) for now in (0.0, 1.0, 2.0, 9.9)] == [True, True, False, False]
    assert [budget.spend(now) for now in (10.0, 10.5, 11.0)] == [True, False, True]


def test_no_budget() -> None:
    assert RestartBudget(0, window_s=10.0).spend(0.0) is False


def test_a_spent_budget_is_renewed_when_its_oldest_restart_leaves_the_window() -> None:
    budget = RestartBudget(2, window_s=10.0)
    assert budget.spend(1.0) and budget.spend(3.0) and not budget.spend(4.0)
    assert budget.renewed() == 11.0 and budget.spend(11.0)
    assert RestartBudget(0, window_s=10.0).renewed() is None


def test_one_that_never_works_waits_longer_each_time_and_not_for_ever() -> None:
    pauses = [pause_before(losses) for losses in range(1, 200)]
    assert pauses[0] == 0 and pauses == sorted(pauses) and pauses[-1] == 60


def test_a_result_clears_a_node_and_wrong_bits_are_not_forgiven() -> None:
    strikes = Strikes()
    strikes.lost("a", 0.0)
    strikes.answered("a")
    strikes.lost("a", 1.0)
    assert strikes.avoided(2.0) == ()
    strikes.lost("b", 2.0, strikes=2)  # it hung
    strikes.wrong("c")
    assert strikes.avoided(3.0) == ("b", "c")
    assert strikes.avoided(1e9) == ("c",)


def test_a_node_in_quarantine_is_the_last_resort() -> None:
    assert placement(()) == {"scheduling_strategy": "SPREAD"}
    options = placement(("a", "b"))
    assert options["label_selector"] == {"ray.io/node-id": "!in(a,b)"}
    assert options["fallback_strategy"] == [{"label_selector": {}}], "or a lone node could never be used again"


@pytest.mark.parametrize(
    ("min_workers", "warm", "needed"), [(None, False, 4), (None, True, 1), (2, False, 2), (2, True, 2)]
)
def test_how_many_must_be_ready(min_workers: int | None, warm: bool, needed: int) -> None:
    assert workers_needed(RayOptions(num_workers=4, min_workers=min_workers), warm=warm) == needed


def test_a_wait_for_workers_begins_when_they_are_missed_and_may_begin_again() -> None:
    capacity = Capacity(RayOptions(num_workers=3, min_workers=2, warmup_timeout_s=60, capacity_timeout_s=5), now=0.0)
    capacity.observe(ready=2, coming=True, now=59.0)
    assert (capacity.warm, capacity.deadline) == (False, 60.0)
    capacity.accept()
    assert capacity.deadline is None
    for now in (100.0, 103.0):  # the wait is counted from when they were missed first
        capacity.observe(ready=1, coming=True, now=now)
        assert capacity.deadline == 105.0
    capacity.begin_again(106.0)
    assert capacity.deadline == 111.0
    capacity.observe(ready=2, coming=True, now=107.0)
    assert capacity.deadline is None


def test_the_first_wait_is_over_when_nobody_comes_any_more() -> None:
    capacity = Capacity(RayOptions(num_workers=3), now=0.0)
    capacity.observe(ready=1, coming=False, now=1.0)
    assert capacity.warm and capacity.deadline is None


@pytest.mark.parametrize(
    ("error", "worker", "place"),
    [
        (rex.ActorDiedError(), True, True),
        (rex.ActorUnavailableError("gone", None), True, True),
        (rex.OutOfMemoryError("the node was short of memory"), True, True),
        (rex.NodeDiedError("dead"), True, True),
        (rex.WorkerCrashedError(), True, True),
        (rex.ObjectLostError("00" * 28, None, ""), False, True),
        (rex.OwnerDiedError("00" * 28, None, ""), False, True),
        (rex.RaySystemError(OSError("x"), "tb"), False, False),
        (ValueError("OutOfMemoryError: ActorDiedError"), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_faults_are_sorted_by_type(error: Exception, worker: bool, place: bool) -> None:
    assert (is_worker_fault(error), is_place_fault(error)) == (worker, place)
    assert "\n" not in describe_fault(error) and type(error).__name__ in describe_fault(error)


def test_union() -> None:
    assert union_length([]) == 0.0
    assert union_length([(3.0, 4.0), (0.0, 2.0), (1.0, 1.5)]) == 3.0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda t: (min(t), max(t)))))
def test_union_counts_each_unit_once(intervals: list[tuple[int, int]]) -> None:
    covered = {unit for start, end in intervals for unit in range(start, end)}
    assert union_length(intervals) == len(covered)


def test_a_common_clock_is_left_alone() -> None:
    clock = ClockOffset()
    clock.observe(issued=1.0, worked=(1.1, 1.9), arrived=2.0)
    assert clock.to_driver((1.1, 1.9)) == (1.1, 1.9)


def test_another_clock_is_found_better_with_every_round_trip() -> None:
    clock = ClockOffset()  # the driver's clock is 90 ahead
    clock.observe(issued=100.0, worked=(10.6, 11.0), arrived=101.2)
    wide = clock.to_driver((10.6, 11.0))[0]
    clock.observe(issued=200.0, worked=(110.1, 111.0), arrived=201.1)
    narrow = clock.to_driver((10.6, 11.0))[0]
    assert abs(narrow - 100.6) < abs(wide - 100.6)
