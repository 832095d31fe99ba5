"""Numbers and categories: standardised by the training split, logarithms, or one column for each category."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from metadist.errors import DataError
from metadist.transforms.step import Array, State, Step, is_text

CHUNK = 65_536


def standardize_step(*, over: str) -> Step:
    """(x - mean) / deviation of the training split: of each element of a row, or (``over: everything``) of all of
    them together. Where nothing varies the deviation is 1."""

    def fit(values: Array) -> State:
        _check_numbers(values, "standardize")
        axes = (0,) if over == "rows" else tuple(range(values.ndim))
        chunks = (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused below, with a count
            mean = values.mean(axes, dtype=np.float64)
            squares = sum(((chunk - mean) ** 2).sum(axes) for chunk in chunks)
        deviation = np.sqrt(squares * (mean.size / values.size))
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            bad = int((~np.isfinite(values)).sum())
            raise DataError(
                f"transform standardize: {bad} of {values.size} values of the training split are not finite; leave "
                "their rows out of the store, or fill them in"
            )
        return {
            "mean": np.asarray(mean, np.float32),
            "deviation": np.where(deviation > 0, deviation, 1).astype(np.float32),
        }

    def apply(values: Array, state: State) -> Array:
        _check_numbers(values, "standardize")
        scaled: Array = (values - state["mean"]) / state["deviation"]
        return scaled

    def undo(values: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return values * state["deviation"] + state["mean"]

    return Step(apply, fit, undo=undo)


def log1p_step() -> Step:
    """log(1 + x): for amounts and counts, which are never negative and have a long tail."""

    def apply(values: Array, state: State) -> Array:
        _check_numbers(values, "log1p")
        if values.size and not values.min() > -1:
            raise DataError(f"transform log1p needs values above -1; the smallest of these is {values.min()}")
        found: Array = np.log1p(values)
        return found

    return Step(apply, undo=lambda values, state: torch.expm1(values))


def one_hot_step(*, limit: int) -> Step:
    """Values (T, N, *shape), whole numbers or text, to (T, N, *shape, K): 1 at the place of the value among the K
    different ones of the training split, in sorted order. One that was not among them is zero everywhere."""

    def fit(values: Array) -> State:
        known = np.unique(np.asarray(values.tolist(), np.str_) if is_text(values) else values)
        if len(known) > limit:
            raise DataError(
                f"transform one_hot: the training split has {len(known)} different values, more than the limit "
                f"{limit}; raise options.limit, or take a numeric transform"
            )
        return {"known": known}

    def apply(values: Array, state: State) -> Array:
        known = state["known"]
        if is_text(values) != is_text(known):
            raise DataError(f"transform one_hot was fitted on {known.dtype} and is given {values.dtype}")
        given = np.asarray(values.tolist(), np.str_).reshape(values.shape) if is_text(values) else values
        return np.equal(given[..., None], known).astype(np.float32)

    return Step(apply, fit)


def _check_numbers(values: Array, name: str) -> None:
    if is_text(values):
        raise DataError(f"transform {name} needs numbers; the column holds text (tokenize and one_hot take text)")
