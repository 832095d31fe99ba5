"""One contract, one table: every group is held to the same expectations. A new group joins by a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import (
    ContractViolation,
    Event,
    Folded,
    LocalGroup,
    RayGroup,
    RayOptions,
    ShardFailed,
    ShardPoisoned,
    WorkerGroup,
    WorkerStartFailed,
    WorkFactory,
)
from tests.ray.work import Piece, RaiseFactory, broken_factory, context_factory, number_factory, pieces

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

SHARED = np.linspace(-2, 2, 1_003, dtype=np.float32)
LARGE = np.linspace(-2, 2, 60_000, dtype=np.float32)  # too large to travel inside a message


def local(factory: WorkFactory, events: list[Event]) -> WorkerGroup:
    return LocalGroup(factory, events.append)


def ray_group(num_workers: int) -> Callable[[WorkFactory, list[Event]], WorkerGroup]:
    def make(factory: WorkFactory, events: list[Event]) -> WorkerGroup:
        return RayGroup(factory, RayOptions(num_workers=num_workers), events.append)

    return make


GROUPS = {"local": local, "ray1": ray_group(1), "ray2": ray_group(2), "ray3": ray_group(3)}
FAULTY = {name: GROUPS[name] for name in ("local", "ray2")}  # what does not depend on the number of workers


@pytest.fixture(params=list(GROUPS), scope="module")
def group(request: pytest.FixtureRequest, ray_session: None) -> Iterator[WorkerGroup]:
    """One group of each kind over ``numbers``; used by many tests, so it must stay usable."""
    with GROUPS[request.param](number_factory, []) as made:
        yield made


@pytest.fixture(scope="module")
def reference() -> dict[int, Folded]:
    group = LocalGroup(number_factory)
    return {size: group.reduce(size, LARGE if size == 5 else SHARED, pieces(size)) for size in (1, 2, 5, 13)}


@pytest.mark.parametrize("size", [1, 2, 5, 13])
def test_reduce_has_the_same_bits(group: WorkerGroup, size: int, reference: dict[int, Folded]) -> None:
    found = group.reduce(size, LARGE if size == 5 else SHARED, pieces(size))
    assert found.vector.tobytes() == reference[size].vector.tobytes()
    assert found.metrics == reference[size].metrics and found.count == reference[size].count


def test_results_come_in_item_order_each_once(group: WorkerGroup) -> None:
    found = [partial.metrics["loss"] for partial in group.map_ordered(7, SHARED, pieces(9))]
    expected = [p.metrics["loss"] for p in LocalGroup(number_factory).map_ordered(7, SHARED, pieces(9))]
    assert found == expected and len(set(found)) == 9


def test_no_items(group: WorkerGroup) -> None:
    assert list(group.map_ordered(0, SHARED, [])) == []
    with pytest.raises(ContractViolation, match="no items"):
        group.reduce(0, SHARED, [])


def test_timing(group: WorkerGroup) -> None:
    group.reduce(0, LARGE, pieces(4))
    timing = group.timing()
    assert 0 < timing.busy_any_s <= timing.busy_total_s + 1e-9
    assert timing.busy_any_s <= timing.wall_s


def test_a_consumer_may_stop_early(group: WorkerGroup, reference: dict[int, Folded]) -> None:
    results = group.map_ordered(1, SHARED, pieces(13))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert group.reduce(13, SHARED, pieces(13)).vector.tobytes() == reference[13].vector.tobytes()


def test_a_new_call_ends_the_one_before(group: WorkerGroup, reference: dict[int, Folded]) -> None:
    old = group.map_ordered(1, SHARED, pieces(13))
    next(old)
    assert group.reduce(5, LARGE, pieces(5)).vector.tobytes() == reference[5].vector.tobytes()
    with pytest.raises(ContractViolation, match="another call began"):
        next(old)


def test_the_shared_vector_is_taken_at_the_call(group: WorkerGroup, reference: dict[int, Folded]) -> None:
    for size, start in ((5, LARGE), (13, SHARED)):
        shared = start.copy()
        results = group.map_ordered(size, shared, pieces(size))
        shared[:] = 7.0
        total = sum(float(partial.metrics["loss"][0]) for partial in results)
        assert total == reference[size].metrics["loss"][0]


def test_wrong_input_is_refused_at_the_call(group: WorkerGroup) -> None:
    with pytest.raises(ContractViolation, match="float64"):
        group.map_ordered(0, np.zeros(3), pieces(1))  # type: ignore[arg-type]
    with pytest.raises(ContractViolation, match="position"):
        group.map_ordered(0, SHARED, pieces(2)[1:])


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
def test_a_work_function_that_raises(make: Any) -> None:
    with make(RaiseFactory(3, "value"), []) as group:
        with pytest.raises(ShardFailed) as caught:
            group.reduce(41, SHARED, pieces(6))
        error = caught.value
        assert (error.version, error.index, error.describe) == (41, 3, "piece 3 of train")
        assert error.error_type == "ValueError" and error.message == "a wrong value"
        assert 'raise ValueError("a wrong value")' in error.remote_traceback
        assert isinstance(error.__cause__, ValueError)
        assert group.reduce(1, SHARED, pieces(3)).count == 9  # the group goes on


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize(("how", "error_type"), [("stubborn", "tests.ray.work.Stubborn"), ("write", "ValueError")])
def test_other_failures(make: Any, how: str, error_type: str) -> None:
    """An exception that does not pickle; writing into the shared vector."""
    with make(RaiseFactory(1, how), []) as group, pytest.raises(ShardFailed) as caught:
        group.reduce(0, SHARED, pieces(3))
    assert caught.value.error_type == error_type


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
def test_reduce_wants_partials(make: Any) -> None:
    with make(context_factory, []) as group, pytest.raises(ContractViolation, match="needs a Partial"):
        group.reduce(0, SHARED, pieces(2))


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize(
    ("how", "reason"), [("place-once", "cluster.errors.PlaceFailure"), ("memory-once", "MemoryError")]
)
def test_a_place_that_cannot_is_forgiven(make: Any, how: str, reason: str, tmp_path: Path) -> None:
    events: list[Event] = []
    items = pieces(4, tmp_path)
    with make(RaiseFactory(2, how), events) as group:
        found = group.reduce(9, SHARED, items)
    assert found.vector.tobytes() == LocalGroup(number_factory).reduce(9, SHARED, items).vector.tobytes()
    (reissued,) = [event.detail for event in events if event.kind == "shard_reissued"]
    assert (reissued["version"], reissued["index"], reissued["attempt"]) == (9, 2, 2)
    assert reissued["reason"].startswith(reason)


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
def test_a_place_that_never_can_poisons_the_item(make: Any) -> None:
    with make(RaiseFactory(2, "place"), []) as group:
        with pytest.raises(ShardPoisoned, match="no room here") as caught:
            group.reduce(9, SHARED, pieces(4))
        assert (caught.value.index, caught.value.attempts) == (2, 3)
        assert caught.value.describe == "piece 2 of train" and len(caught.value.reasons) == 3
        assert group.reduce(1, SHARED, pieces(2)).count == 6


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
def test_a_factory_that_raises_is_told_with_its_traceback(make: Any) -> None:
    with pytest.raises(WorkerStartFailed) as caught, make(broken_factory, []) as group:
        group.reduce(0, SHARED, pieces(1))
    assert caught.value.error_type == "LookupError" and "conv5" in caught.value.message
    assert "in broken_factory" in caught.value.remote_traceback


@pytest.mark.parametrize("make", FAULTY.values(), ids=FAULTY)
def test_a_closed_group_refuses(make: Any) -> None:
    group = make(number_factory, [])
    group.close()
    group.close()
    with pytest.raises(ContractViolation, match="closed"):
        group.map_ordered(0, SHARED, [Piece(0)])
