"""What one row of a store is: its kind, its columns, and how a column lies in Arrow memory.

Arrays are ``fixed_size_binary`` (little-endian, C order); dtype and shape stand in the schema
metadata. Parquet would keep a uint8 list as one INT32 with levels per pixel: four times the bytes
and up to 33 times the time. Scalars keep their Arrow type, text is a string column.

Nulls are refused everywhere. NaN is a value like any other: whether it is allowed is the task's
business, not the store's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks_store.errors import SchemaMismatch

FORMAT_VERSION = 1
Kind = Literal["classes", "groups", "parameters"]
"""classes: a group is a class, a task is drawn over several groups. groups: a group is a task.
parameters: a row is a task."""
KINDS: tuple[str, ...] = get_args(Kind)

METADATA_KEY = b"tasks_store"
ID_COLUMNS = ("group", "split", "domain")
_SCALARS = {
    "uint8": pa.uint8(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a store.

    Example:
        >>> Column(name="image", dtype="uint8", shape=(28, 28)).nbytes
        784
    """

    name: str
    """Letters, digits and underscores; not group, split or domain."""
    dtype: str
    """uint8, int64, float32, float64 or string."""
    shape: tuple[int, ...] = ()
    """Shape of one row's value; () is a scalar. Strings are scalars."""
    unit: str = ""
    """Free text for the reader: "ink 0..255", "rad", "degC"."""
    fields: tuple[str, ...] = ()
    """What the values of a packed vector were called where they come from, in order; () when nothing was packed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "fields", tuple(self.fields))
        if not _NAME.fullmatch(self.name) or self.name in ID_COLUMNS:
            raise SchemaMismatch(
                f"column name {self.name!r}: expected letters, digits and underscores, and none of "
                f"{', '.join(ID_COLUMNS)}"
            )
        if self.dtype not in _SCALARS:
            raise SchemaMismatch(f"column {self.name!r}: dtype {self.dtype!r} is none of {', '.join(_SCALARS)}")
        if any(size < 1 for size in self.shape) or (self.shape and self.dtype == "string"):
            raise SchemaMismatch(f"column {self.name!r}: a {self.dtype} column cannot have shape {self.shape}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Little-endian dtype of the values; object for strings."""
        return np.dtype(object) if self.dtype == "string" else np.dtype(self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of one row's value; 0 for strings, whose length is free."""
        return 0 if self.dtype == "string" else math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def arrow_type(self) -> Any:
        """The pyarrow type it is stored as."""
        return pa.binary(self.nbytes) if self.shape else _SCALARS[self.dtype]


def check_columns(columns: Sequence[Column], kind: str) -> tuple[Column, ...]:
    """Return the columns as a tuple.

    Raises:
        SchemaMismatch: an unknown kind, no column, or a name used twice.
    """
    if kind not in KINDS:
        raise SchemaMismatch(f"store kind {kind!r} is none of {', '.join(KINDS)}")
    names = [column.name for column in columns]
    if not names or len(set(names)) != len(names):
        raise SchemaMismatch(f"a store needs one or more columns with different names, got {names}")
    return tuple(columns)


def arrow_schema(columns: Sequence[Column], kind: str) -> Any:
    """Arrow schema of a data file: group, split, domain, then the columns; ours in the metadata."""
    fields = [pa.field(name, pa.string(), nullable=False) for name in ID_COLUMNS]
    fields += [pa.field(column.name, column.arrow_type, nullable=False) for column in columns]
    about = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "byte_order": "little",
        "columns": [column_to_json(column) for column in columns],
    }
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, sort_keys=True).encode()})


def column_to_json(column: Column) -> dict[str, Any]:
    """A column as plain JSON values; ``fields`` stands in it only when there are any."""
    plain = {**asdict(column), "shape": list(column.shape), "fields": list(column.fields)}
    return plain if column.fields else {name: value for name, value in plain.items() if name != "fields"}


def column_from_json(value: Mapping[str, Any]) -> Column:
    """The inverse of :func:`column_to_json`."""
    return Column(**{**value, "shape": tuple(value["shape"])})


def decode(array: Any, column: Column) -> NDArray[Any]:
    """A stored Arrow (chunked) array as numpy, (rows, *shape); strings as an object array.

    The result may be a read-only view of Arrow memory.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array, pa.ChunkedArray):  # combine_chunks of zero chunks stays chunked in some versions
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    rows = len(array)
    if column.dtype == "string":
        texts = np.empty(rows, dtype=object)
        texts[:] = array.to_pylist()
        return texts
    buffer = array.buffers()[1]
    if rows == 0 or buffer is None:
        return np.empty((0, *column.shape), dtype=column.numpy_dtype)
    values = math.prod(column.shape)
    flat = np.frombuffer(buffer, dtype=column.numpy_dtype, count=rows * values, offset=array.offset * column.nbytes)
    return flat.reshape(rows, *column.shape)
