"""What a task sees of a row: numbers packed into a vector ``x``, or one text or array column; and its target ``y``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks_store.errors import ImportFailed
from tasks_store.importers.pictures import check_shape, decoded, encoded, is_picture
from tasks_store.importers.unreadable import separator_hint
from tasks_store.schema import Column

FLAG = "_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """How the value columns of a table become the columns of a store."""

    packed: tuple[str, ...]
    """Numeric columns in the order of ``x``; () when the value is one text or array column."""
    flagged: tuple[str, ...] = ()
    """Those of ``packed`` that have a further 0/1 value in ``x``: filled here or not."""
    single: Column | None = None
    single_name: str = ""
    pictures: bool = False
    """Whether the single column holds encoded pictures, which become pixels."""
    target: str | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the store."""
        names = (*self.packed, *(name + FLAG for name in self.flagged))
        value = self.single or Column(name="x", dtype="float32", shape=(len(names),), fields=names)
        return (value, *([Column(name="y", dtype="float32", fields=(self.target,))] if self.target else []))

    def encode(self, table: Any, means: Mapping[str, float]) -> dict[str, Any]:
        """The store's columns of some rows; gaps in flagged columns are filled with the means.

        Raises:
            ImportFailed: a number that float32 cannot hold.
        """
        found: dict[str, Any] = {}
        if self.single is not None:
            column = table.column(self.single_name)
            pixels = decoded(column, self.single_name, self.single.shape) if self.pictures else None
            found[self.single.name] = column if pixels is None else pixels
        else:
            parts = [self._numbers(table, name, means.get(name)) for name in self.packed]
            parts += [gaps(table.column(name)).astype(np.float32) for name in self.flagged]
            x = np.ascontiguousarray(np.stack(parts, axis=1))
            found["x"] = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
        if self.target:
            found["y"] = pa.array(self._numbers(table, self.target, None))
        return found

    @staticmethod
    def _numbers(table: Any, name: str, fill: float | None) -> np.ndarray[Any, np.dtype[np.float32]]:
        wide = as_float64(table.column(name))
        if fill is not None:
            wide = np.where(gaps(table.column(name)), fill, wide)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        if not np.array_equal(np.isfinite(narrow), np.isfinite(wide)):
            raise ImportFailed(f"column {name!r} has numbers beyond float32 (3.4e38): scale it before the import")
        return narrow


def resolve_values(
    schema: Any, wanted: Sequence[str], used: Collection[str], target: str | None, shape: tuple[int, ...] = ()
) -> Values:
    """Columns from names and globs.

    Args:
        schema: of the table.
        wanted: names, or globs, which pass over the columns in ``used``.
        used: columns with another role (group, target, split, order).
        target: numeric column to predict, or None.
        shape: of one row's uint8 values when the value is a binary column.

    Raises:
        ImportFailed: no such column, or columns that cannot be a value together.
    """
    names: list[str] = []
    for pattern in wanted:
        found = [pattern] if pattern in schema.names else []
        found = found or [name for name in schema.names if fnmatchcase(name, pattern) and name not in used]
        if not found:
            raise ImportFailed(
                f"--value {pattern!r} matches no column; there are {', '.join(schema.names)}"
                f"{separator_hint(schema.names, pattern)}"
            )
        names += [name for name in found if name not in names]
    if not names:
        raise ImportFailed(f"name the columns a task sees with --value; there are {', '.join(schema.names)}")
    if target is not None and target in names:
        raise ImportFailed(f"column {target!r} is both --target and --value: a task would see its answer")
    for name in [target] if target else []:
        if not _is_number(schema.field(name).type):
            raise ImportFailed(f"--target {name!r} is {schema.field(name).type}, not a number; for classes use --label")
    others = [name for name in names if not _is_number(schema.field(name).type)]
    if not others:
        if shape:
            raise ImportFailed(
                f"--shape {_shown(shape)}: the numbers of --value ({len(names)} columns) are packed into one vector x; "
                "--shape is of one column of bytes, pictures or lists: leave it out"
            )
        return Values(packed=tuple(names), target=target)
    if len(names) > 1:
        raise ImportFailed(
            f"--value names {len(names)} columns, and {others[0]!r} is {schema.field(others[0]).type}: several columns "
            "must be numbers, which are packed into one vector; a text or array column must be the only one"
        )
    field = schema.field(names[0])
    return Values(
        packed=(),
        single=_single(field, shape),
        single_name=names[0],
        pictures=is_picture(field.type),
        target=target,
    )


def gaps(column: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows have no value: null, or NaN; of pictures, those without bytes."""
    column = encoded(column) if is_picture(column.type) else column
    missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    return np.asarray(missing.to_numpy(), dtype=np.bool_)


def as_float64(column: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A numeric column as float64, gaps as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _is_number(kind: Any) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _single(field: Any, shape: tuple[int, ...]) -> Column:
    """The store's column of a text or array column."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", field.name)[:64]
    name = name if name[0].isalpha() and name not in ("group", "split", "domain", "y") else f"x_{name}"[:64]
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        if shape:
            raise ImportFailed(
                f"--shape {_shown(shape)}: --value {field.name!r} is text, which has no shape: leave it out"
            )
        return Column(name=name, dtype="string")
    if is_picture(field.type):
        check_shape(field.name, shape)
        return Column(name=name, dtype="uint8", shape=shape, unit="0..255")
    inner, sizes = field.type, []
    if isinstance(inner, pa.FixedShapeTensorType):
        sizes, inner = list(inner.shape), inner.value_type
    while pa.types.is_fixed_size_list(inner):
        sizes, inner = [*sizes, inner.list_size], inner.value_type
    if pa.types.is_binary(inner) or pa.types.is_fixed_size_binary(inner) or pa.types.is_large_binary(inner):
        if not shape:
            raise ImportFailed(
                f"--value {field.name!r} is {field.type}: say what its bytes are with --shape, e.g. 28,28"
            )
        return Column(name=name, dtype="uint8", shape=shape)
    while pa.types.is_list(inner) or pa.types.is_large_list(inner):
        sizes, inner = list(shape), inner.value_type
        if not shape:
            raise ImportFailed(f"--value {field.name!r} is {field.type}: say its length or shape with --shape, e.g. 64")
    if shape and sizes and math.prod(shape) != math.prod(sizes):
        raise ImportFailed(
            f"--shape {_shown(shape)} is of {math.prod(shape)} numbers, and --value {field.name!r} has "
            f"{_shown(sizes)}, which are {math.prod(sizes)}: leave --shape out, or name one of as many"
        )
    sizes = list(shape) or sizes
    if not sizes or not _is_number(inner):
        raise ImportFailed(f"--value {field.name!r} is {field.type}: expected numbers, text, or arrays of numbers")
    exact = {pa.uint8(): "uint8", pa.float32(): "float32", pa.float16(): "float32"}
    dtype = exact.get(inner, "int64" if pa.types.is_integer(inner) else "float64")
    return Column(name=name, dtype=dtype, shape=tuple(sizes))


def _shown(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))
