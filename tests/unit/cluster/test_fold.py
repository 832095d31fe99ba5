"""The fold: item order in float64, whatever the arrival order; anything irregular is an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import ContractViolation, Folded, OrderedFold, Partial
from tests.ray.work import numbers, pieces

SHARED = np.linspace(-1, 1, 17, dtype=np.float32)
PARTIALS = [numbers(3, SHARED, piece) for piece in pieces(7)]


def folded(order: list[int]) -> Folded:
    fold = OrderedFold(version=3, num_items=len(order))
    for index in order:
        fold.add(3, index, PARTIALS[index])
    assert fold.waiting == 0
    return fold.result()


@given(st.permutations(range(7)))
def test_the_arrival_order_cannot_be_seen(order: list[int]) -> None:
    expected, found = folded(list(range(7))), folded(order)
    assert found.vector.dtype == np.float64
    assert found.vector.tobytes() == expected.vector.tobytes()
    assert found.metrics == expected.metrics and found.count == expected.count == 21


def test_the_order_of_the_items_does_matter() -> None:
    """Otherwise the test above would show nothing."""
    backwards = OrderedFold(version=3, num_items=7)
    for index in range(7):
        backwards.add(3, index, PARTIALS[6 - index])
    assert backwards.result().vector.tobytes() != folded(list(range(7))).vector.tobytes()


def test_sums_are_those_of_float64() -> None:
    expected = np.zeros(17)
    for partial in PARTIALS:
        expected = expected + partial.vector.astype(np.float64)
    np.testing.assert_array_equal(folded(list(range(7))).vector, expected)


def test_a_metric_that_only_some_items_have_is_summed_over_those() -> None:
    fold = OrderedFold(version=0, num_items=2)
    fold.add(0, 0, Partial(vector=SHARED, metrics={"a": (1.0, 2.0)}))
    fold.add(0, 1, Partial(vector=SHARED, metrics={"a": (0.5, 1.0), "b": (4.0, 1.0)}))
    assert fold.result().metrics == {"a": (1.5, 3.0), "b": (4.0, 1.0)}


@pytest.mark.parametrize(
    ("version", "index", "partial", "message"),
    [
        (2, 1, PARTIALS[1], "stale"),
        (3, 0, PARTIALS[0], "came before"),
        (3, 2, PARTIALS[0], "came before"),
        (3, 7, PARTIALS[0], "7 items"),
        (3, -1, PARTIALS[0], "7 items"),
        (3, 1, Partial(vector=SHARED[:-1]), "length 16, those before it have 17"),
        (3, 1, Partial(vector=SHARED.astype(np.float64)), "float32"),  # type: ignore[arg-type]
        (3, 1, Partial(vector=SHARED[None]), r"shape \(P,\)"),
        (3, 1, SHARED, "needs a Partial"),
    ],
)
def test_irregular_results_are_refused(version: int, index: int, partial: Any, message: str) -> None:
    fold = OrderedFold(version=3, num_items=7)
    fold.add(3, 0, PARTIALS[0])
    fold.add(3, 2, PARTIALS[2])
    with pytest.raises(ContractViolation, match=message):
        fold.add(version, index, partial)


def test_a_missing_result_is_named() -> None:
    fold = OrderedFold(version=3, num_items=3)
    fold.add(3, 0, PARTIALS[0])
    fold.add(3, 2, PARTIALS[2])
    with pytest.raises(ContractViolation, match="item 1 of 3 is missing"):
        fold.result()


def test_a_sum_over_nothing_is_refused() -> None:
    with pytest.raises(ContractViolation, match="no items"):
        OrderedFold(version=3, num_items=0).result()
