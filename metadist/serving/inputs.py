"""Checks of what a caller sends: raw inputs, labels, targets. Every refusal says what was found and what fits.

Legend: N examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.errors import DataError

Label = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawColumn:
    """A column as it is stored, before any transform.

    Attributes:
        name: Its name in the store.
        dtype: ``"uint8"``, ``"float32"``, ...
        shape: Of one example.
        fields: Names of the numbers that were packed into it, where an import packed some.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    fields: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``fields`` stands among them only where there are any."""
        return {name: value for name, value in asdict(self).items() if name != "fields" or value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RawColumn:
        return cls(
            name=value["name"], dtype=value["dtype"], shape=tuple(value["shape"]), fields=tuple(value.get("fields", ()))
        )


def raw_inputs(values: Any, column: RawColumn, what: str, *, empty: bool = False) -> NDArray[Any]:
    """Inputs (N, *shape) as float32, or text (N,), checked against the column that the model was trained on.

    Args:
        values: Anything that numpy makes an array of.
        column: What the model was trained on.
        what: ``"support_x"`` or ``"query_x"``, for messages.
        empty: Whether no examples are taken, too.

    Raises:
        DataError: wrong shape, no examples, not numbers (of a text column: not strings), not finite, fractions
            or values outside an integer column.
    """
    if column.dtype == "string":
        return _texts(values, column, what, empty=empty)
    array = _numbers(values, what)
    if empty and array.shape == (0,):
        return np.zeros((0, *column.shape), np.float32)
    if array.shape[1:] != column.shape or array.ndim == 0:
        sizes = "".join(f", {size}" for size in column.shape)
        raise DataError(
            f"{what} has shape {array.shape}; this model takes (examples{sizes}): {column.name!r} as it is stored"
        )
    if len(array) == 0 and not empty:
        raise DataError(f"{what} is empty; send at least one example")
    found = _as_float32(array, what)
    if len(array) and np.dtype(column.dtype).kind in "iu":
        _integral(array, column, what)
    return found


def class_labels(labels: Any, count: int, ways: int) -> tuple[tuple[Label, ...], NDArray[np.int64]]:
    """The distinct labels in sorted order, and each example's place among them (N,).

    Raises:
        DataError: not strings or integers, a null, not one label an example, or not ``ways`` distinct ones.
    """
    values = _flat(labels, "support_y")
    if len(values) != count:
        raise DataError(f"support_y has {len(values)} labels for {count} support examples")
    for place, value in enumerate(values):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            raise DataError(f"support_y[{place}] is null; every support example needs a label")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"support_y[{place}] is {value!r} ({type(value).__name__}); labels are strings or integers")
    kinds = {type(value).__name__ for value in values}
    if len(kinds) > 1:
        raise DataError("support_y mixes strings and integers; labels are of one kind")
    classes = tuple(sorted(set(values)))
    if len(classes) != ways:
        shown = ", ".join(repr(label) for label in classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise DataError(
            f"support_y has {len(classes)} distinct labels ({shown}); this model tells exactly {ways} classes apart"
        )
    place_of = {label: place for place, label in enumerate(classes)}
    return classes, np.array([place_of[value] for value in values], np.int64)


def targets(values: Any, count: int, column: RawColumn) -> NDArray[np.float32]:
    """Regression targets as (N, D) float32.

    Raises:
        DataError: wrong shape or count, not numbers, or not finite.
    """
    array = _numbers(values, "support_y")
    width = int(np.prod(column.shape, dtype=np.int64))
    if count == 0 and len(array) == 0 and array.ndim:
        return np.zeros((0, width), np.float32)
    if array.shape not in ((count, *column.shape), (count, width)):
        raise DataError(f"support_y has shape {array.shape}; this model takes {(count, *column.shape)}")
    return _as_float32(array, "support_y").reshape(count, width)


def _texts(values: Any, column: RawColumn, what: str, *, empty: bool) -> NDArray[np.object_]:
    texts = _flat(values, what)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{what}[{place}] is {text!r}; {column.name!r} is text, a string an example")
    if not texts and not empty:
        raise DataError(f"{what} is empty; send at least one example")
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def _numbers(values: Any, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged
        raise DataError(f"{what} is not a regular array: {error}") from None
    if array.dtype.kind not in "fiu":
        nulls = array.dtype.kind == "O" and any(value is None for value in array.reshape(-1))
        found = "holds nulls" if nulls else f"has type {array.dtype}"
        raise DataError(f"{what} {found}; send numbers")
    return array


def _as_float32(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # refused below
        found = array.astype(np.float32)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = tuple(int(index) for index in bad[0])
        why = f"a model computes in float32, up to {np.finfo(np.float32).max:.3g}" if np.isfinite(array[place]) else ""
        raise DataError(f"{what}{list(place)} is {array[place]}; {why or 'values must be finite'}")
    return found


def _integral(array: NDArray[Any], column: RawColumn, what: str) -> None:
    info = np.iinfo(column.dtype)
    low, high = array.min(), array.max()
    if low < info.min or high > info.max:
        raise DataError(
            f"{what} has values from {low} to {high}; {column.name!r} is raw {column.dtype}, {info.min} to {info.max}"
        )
    if array.dtype.kind == "f" and bool((array != np.round(array)).any()):
        scaled = "; these look already scaled, and the model scales by itself" if high <= 1 else ""
        raise DataError(
            f"{what} has fractions; {column.name!r} is raw {column.dtype}, whole numbers from {info.min} to "
            f"{info.max}{scaled}"
        )


def _flat(labels: Any, what: str) -> list[Any]:
    if isinstance(labels, np.ndarray):
        if labels.ndim != 1:
            raise DataError(f"{what} has shape {labels.shape}; it is a list, one value an example")
        labels = labels.tolist()
    try:
        values = list(labels)
    except TypeError:
        raise DataError(f"{what} is {type(labels).__name__}; it is a list, one value an example") from None
    return [value.item() if isinstance(value, np.generic) else value for value in values]
