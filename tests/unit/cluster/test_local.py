"""What is particular to the local group; the common contract is in tests/ray/test_contract.py."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cluster import ContractViolation, LocalGroup, ShardFailed, WorkerGroup, WorkerStartFailed, worker_context
from tests.ray.work import RaiseFactory, broken_factory, context_factory, number_factory, pieces

SHARED = np.arange(4, dtype=np.float32)


def test_importing_the_package_does_not_import_ray() -> None:
    code = "import sys, cluster; sys.exit('ray' in sys.modules or not cluster.__metadist__)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_sorted_and_exist() -> None:
    import cluster

    assert list(cluster.__all__) == sorted(cluster.__all__)
    assert all(getattr(cluster, name) is not None for name in cluster.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        cluster.Missing  # noqa: B018


def test_it_is_a_worker_group() -> None:
    assert isinstance(LocalGroup(number_factory), WorkerGroup)


def test_the_original_exception_and_its_frames_are_kept_for_a_debugger() -> None:
    with LocalGroup(RaiseFactory(1, "value")) as group, pytest.raises(ShardFailed) as caught:
        group.reduce(0, SHARED, pieces(3))
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError) and cause.__traceback__ is not None


def test_a_factory_that_raises() -> None:
    with pytest.raises(WorkerStartFailed, match=r"LookupError: no such model: conv5") as caught:
        LocalGroup(broken_factory)
    assert isinstance(caught.value.__cause__, LookupError)


def test_results_are_computed_one_by_one() -> None:
    seen: list[int] = []

    def factory():  # type: ignore[no-untyped-def]
        return lambda version, shared, item: seen.append(item.index)

    results = LocalGroup(factory).map_ordered(0, SHARED, pieces(3))
    next(results)
    assert seen == [0]


def test_the_context_is_there_in_the_group_and_nowhere_else() -> None:
    assert worker_context() is None
    (at_start, at_work, _, _), *_ = LocalGroup(context_factory).map_ordered(0, SHARED, pieces(1))
    assert at_start == at_work and (at_start.worker, at_start.slot, at_start.backend) == ("local", 0, "local")
    assert at_start.accelerator_ids == ()
    assert worker_context() is None


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        (np.zeros(3), "float64"),
        (np.zeros((3, 1), np.float32), r"\(3, 1\)"),
        (np.zeros(6, np.float32)[::2], "contiguous"),
        ([0.0], "list"),
    ],
)
def test_wrong_shared_vectors_are_refused(shared: np.ndarray, message: str) -> None:
    with pytest.raises(ContractViolation, match=message):
        LocalGroup(number_factory).map_ordered(0, shared, pieces(2))


def test_items_out_of_place_are_refused() -> None:
    with pytest.raises(ContractViolation, match=r"piece 1 of train has index 1 but stands at position 0"):
        LocalGroup(number_factory).map_ordered(0, SHARED, pieces(2)[1:])
