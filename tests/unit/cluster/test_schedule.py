"""The schedule: breadth-first, at most two in flight, every item once, blame on the right one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ContractViolation
from cluster.schedule import Assignment, Schedule


def joined(num_items: int, workers: str, max_attempts: int = 3) -> Schedule:
    schedule = Schedule(num_items, max_attempts=max_attempts)
    for worker in workers:
        schedule.join(worker)
    return schedule


def placed(assignments: list[Assignment]) -> list[tuple[int, str]]:
    return [(a.index, a.worker) for a in assignments]


def test_issues_breadth_first_and_at_most_two_each() -> None:
    schedule = joined(8, "abc")
    first = schedule.issue()
    assert placed(first) == [(0, "a"), (1, "b"), (2, "c"), (3, "a"), (4, "b"), (5, "c")]
    assert schedule.issue() == []
    assert schedule.finish(first[1])
    assert placed(schedule.issue()) == [(6, "b")]


def test_nothing_is_issued_without_workers_and_a_late_one_joins() -> None:
    schedule = Schedule(2)
    assert schedule.issue() == []
    schedule.join("a")
    assert placed(schedule.issue()) == [(0, "a"), (1, "a")]


def test_no_items_are_done() -> None:
    assert Schedule(0).done


def test_joining_twice_is_refused() -> None:
    schedule = joined(1, "a")
    with pytest.raises(ContractViolation, match="joined twice"):
        schedule.join("a")


def test_lost_items_go_back_first_to_another_worker_with_a_new_attempt() -> None:
    schedule = joined(6, "ab")
    issued = schedule.issue()  # 0, 2 on a; 1, 3 on b
    setback = schedule.lose("a")
    assert [a.index for a in setback.returned] == [0, 2] and setback.poisoned == ()
    schedule.finish(issued[1])
    assert schedule.issue() == [Assignment(index=0, attempt=2, worker="b")]


def test_a_result_of_a_lost_worker_is_void() -> None:
    schedule = joined(2, "ab")
    issued = schedule.issue()
    schedule.lose("a")
    assert schedule.finish(issued[0]) is False
    assert schedule.finish(issued[1]) is True
    assert schedule.finish(issued[1]) is False  # a second copy


def test_only_the_running_item_is_charged() -> None:
    """Item 1 stands behind item 0 each time; item 0 is poisoned, item 1 is not."""
    schedule = joined(2, "a", max_attempts=2)
    schedule.issue()
    assert schedule.lose("a").poisoned == ()
    schedule.join("b")
    assert placed(schedule.issue()) == [(0, "b")]  # its last attempt: alone
    setback = schedule.lose("b")
    assert setback.poisoned == (0,)
    assert [a.index for a in setback.returned] == [0]


def test_the_last_attempt_waits_for_an_idle_worker_and_nothing_overtakes_it() -> None:
    schedule = joined(6, "ab", max_attempts=2)
    issued = {a.index: a for a in schedule.issue()}  # 0, 2 on a; 1, 3 on b
    schedule.lose("a")
    assert schedule.issue() == []
    schedule.finish(issued[1])
    assert schedule.issue() == []  # b still has item 3; item 4 must not overtake
    schedule.finish(issued[3])
    assert placed(schedule.issue()) == [(0, "b")]
    schedule.join("c")
    assert placed(schedule.issue()) == [(2, "c"), (4, "c")]  # b is reserved


def test_without_a_charge_an_item_may_come_back_for_ever() -> None:
    schedule = Schedule(1, max_attempts=2)
    for n in range(20):
        schedule.join(f"w{n}")
        assert [a.attempt for a in schedule.issue()] == [n + 1]
        assert schedule.lose(f"w{n}", charge=False).poisoned == ()


def test_a_failed_item_prefers_a_worker_that_has_not_tried_it() -> None:
    schedule = joined(1, "ab")
    first = schedule.issue()[0]
    schedule.fail(first)
    second = schedule.issue()[0]
    assert (first.worker, second.worker) == ("a", "b")
    schedule.fail(second)
    third = schedule.issue()[0]  # both have tried: any will do
    assert schedule.is_last_attempt(third)
    assert schedule.fail(third).poisoned == (0,)


def test_one_attempt_means_one() -> None:
    schedule = joined(4, "ab", max_attempts=1)
    assert len(schedule.issue()) == 4  # the last attempt is the first: it does not have to be alone
    assert schedule.lose("a").poisoned == (0,)


@settings(max_examples=200)
@given(data=st.data(), num_items=st.integers(0, 12), num_workers=st.integers(1, 4))
def test_every_item_is_finished_exactly_once_whatever_happens(
    data: st.DataObject, num_items: int, num_workers: int
) -> None:
    schedule = Schedule(num_items, max_attempts=3)
    workers = [f"w{n}" for n in range(num_workers)]
    for worker in workers:
        schedule.join(worker)
    flying: list[Assignment] = []
    finished: list[int] = []
    losses = 0
    while not schedule.done:
        flying += schedule.issue()
        assert flying, "neither finished nor anything under way"
        for worker in workers:
            assert len(schedule.running(worker)) <= 2
        assert len({a.index for a in flying}) == len(flying)
        if losses < 10 and data.draw(st.booleans(), label="lose a worker"):
            losses += 1
            lost = data.draw(st.sampled_from(workers), label="which")
            schedule.lose(lost, charge=False)
            flying = [a for a in flying if a.worker != lost]
            workers[workers.index(lost)] = f"{lost}+"
            schedule.join(f"{lost}+")
        else:
            done = data.draw(st.sampled_from(flying), label="finish")
            flying.remove(done)
            assert schedule.finish(done)
            finished.append(done.index)
    assert sorted(finished) == list(range(num_items))


@settings(max_examples=100)
@given(data=st.data(), culprit=st.integers(0, 5), max_attempts=st.integers(2, 4))
def test_only_an_item_that_kills_is_ever_poisoned(data: st.DataObject, culprit: int, max_attempts: int) -> None:
    """One item kills whoever runs it. However the rest goes, it is the one that is found guilty."""
    schedule = joined(6, "abc", max_attempts=max_attempts)
    workers = list("abc")
    while not schedule.done:
        schedule.issue()
        worker = data.draw(st.sampled_from([w for w in workers if schedule.running(w)]))
        head = schedule.running(worker)[0]
        if head.index != culprit:
            schedule.finish(head)
            continue
        setback = schedule.lose(worker)
        if setback.poisoned:
            assert setback.poisoned == (culprit,)
            return
        workers[workers.index(worker)] = f"{worker}+"
        schedule.join(f"{worker}+")
    pytest.fail("the culprit got through")


def test_a_late_item_is_copied_to_another_worker_and_the_first_result_counts() -> None:
    schedule = joined(2, "ab")
    first, second = schedule.issue()
    assert schedule.copy(first) is True
    assert schedule.copy(first) is False, "one copy waits already"
    (copied,) = schedule.issue()
    assert copied == Assignment(index=0, attempt=2, worker="b")
    assert schedule.copy(first) is False, "one copy runs already"
    assert schedule.finish(copied) is True
    assert schedule.finish(second) is True and schedule.done
    assert schedule.finish(first) is False
    assert schedule.copy(first) is False, "it is done"


def test_a_copy_never_goes_to_the_worker_that_is_late() -> None:
    schedule = joined(1, "a")
    (only,) = schedule.issue()
    assert schedule.copy(only) and schedule.issue() == []
    schedule.join("b")
    assert placed(schedule.issue()) == [(0, "b")]


def test_a_copy_that_was_not_needed_is_forgotten() -> None:
    schedule = joined(2, "a")
    first, _ = schedule.issue()
    schedule.copy(first)
    schedule.finish(first)
    schedule.join("b")
    assert schedule.issue() == []


def test_a_lost_worker_gives_back_only_what_nobody_else_has() -> None:
    """Item 0 runs on b as well, so it is charged but not issued a third time."""
    schedule = joined(4, "ab", max_attempts=3)
    issued = schedule.issue()  # 0, 2 on a; 1, 3 on b
    schedule.copy(issued[0])
    schedule.finish(issued[1])
    assert placed(schedule.issue()) == [(0, "b")]
    assert [a.index for a in schedule.lose("a").returned] == [2]
    assert [a.index for a in schedule.lose("b").returned] == [3, 0]


@given(st.data())
def test_every_item_is_finished_once_whatever_is_late_or_lost(data: st.DataObject) -> None:
    """Random copies, losses and results: the schedule always ends, each item counted once."""
    num_items = data.draw(st.integers(1, 8))
    schedule = joined(num_items, "abc", max_attempts=1000)
    names, counted = iter(range(10_000)), [0] * num_items
    for _ in range(2000):
        schedule.issue()
        if schedule.done:
            break
        running = [a for w in list(schedule._queues) for a in schedule.running(w)[:1]]
        action = data.draw(st.sampled_from(["finish", "finish", "copy", "lose"]))
        chosen = data.draw(st.sampled_from(running))
        if action == "finish":
            counted[chosen.index] += schedule.finish(chosen)
        elif action == "copy":
            schedule.copy(chosen)
        else:
            schedule.lose(chosen.worker)
            schedule.join(f"new{next(names)}")
    assert schedule.done and counted == [1] * num_items


def test_the_last_attempt_waits_for_an_idle_node() -> None:
    """Its memory is the node's: a neighbour could be the reason for its death."""
    schedule = Schedule(6, max_attempts=2)
    for worker, node in (("a", "north"), ("b", "north"), ("c", "south")):
        schedule.join(worker, node)
    first = {assignment.worker: assignment for assignment in reversed(schedule.issue())}
    schedule.lose("a")  # item 0 is charged
    assert schedule.issue() == [], "both nodes are busy"
    schedule.finish(first["b"])
    while schedule.running("b"):
        schedule.finish(schedule.running("b")[0])
    issued = schedule.issue()
    assert [(a.index, a.worker) for a in issued] == [(0, "b")], "alone; what else is pending waits"
    schedule.join("d", "north")
    assert schedule.issue() == []
    schedule.finish(issued[0])
    assert {a.worker for a in schedule.issue()} <= {"b", "d"}


def test_a_retired_worker_finishes_what_it_has() -> None:
    schedule = Schedule(5)
    schedule.join("a")
    schedule.join("b")
    schedule.issue()
    schedule.retire("a")
    for worker in ("a", "a", "b"):
        assert schedule.finish(schedule.running(worker)[0])
    assert [a.worker for a in schedule.issue()] == ["b"]
    for _ in range(2):
        schedule.finish(schedule.running("b")[0])
    assert schedule.done
