"""From what a caller hands in (mappings or Arrow batches) to one table of our schema.

Values are checked, never bent: an integer array does not become uint8 by wrapping, a missing value
does not become zero. What may be done without loss of meaning (a Python int for an int64 column,
float64 for float32) is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks_store.errors import SchemaMismatch
from tasks_store.schema import ID_COLUMNS, Column, arrow_schema

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

_BATCH_ROWS = 4096


def collect_table(rows: Iterable[Mapping[str, Any]] | Iterable[Any], columns: Sequence[Column], kind: str) -> Any:
    """All rows as one pyarrow Table with the schema of :func:`arrow_schema`, in the order given.

    Raises:
        SchemaMismatch: a row or a batch that does not fit; the message names the row and the column.
    """
    schema = arrow_schema(columns, kind)
    return pa.Table.from_batches(list(_batches(rows, columns, schema)), schema=schema)


def columns_of(row: Any) -> tuple[Column, ...]:
    """The columns of rows like this one: text, or numbers of its type and shape (whole numbers but uint8 as int64).

    Raises:
        SchemaMismatch: not a mapping, or a value that is neither text nor numbers.

    Example:
        >>> columns_of({"group": "a", "split": "train", "point": np.zeros(2, np.float32)})[0].dtype
        'float32'
    """
    if not isinstance(row, Mapping):
        raise SchemaMismatch(
            f"the columns of a {type(row).__name__} are not known: name them with columns=[Column(...)]"
        )
    values = {name: np.asarray(value) for name, value in row.items() if name not in ID_COLUMNS}
    return tuple(Column(name=name, dtype=_dtype(name, value), shape=value.shape) for name, value in values.items())


def _dtype(name: str, value: Any) -> str:
    real = "float32" if value.dtype.itemsize < 8 else "float64"
    known = {"U": "string", "f": real, "i": "int64", "u": "uint8" if value.dtype == np.uint8 else "int64"}
    dtype = known.get(value.dtype.kind)
    if dtype is None:
        raise SchemaMismatch(
            f"row 0, column {name!r}: {value.dtype} is neither text nor numbers; name the columns with "
            "columns=[Column(...)] to say what it is"
        )
    return dtype


def _batches(rows: Iterable[Any], columns: Sequence[Column], schema: Any) -> Iterator[Any]:
    stream = iter(rows)
    start = 0
    for first in stream:
        if isinstance(first, pa.RecordBatch | pa.Table):
            batch = _fit(first, columns, schema, start)
            yield from batch
            start += first.num_rows
            continue
        chunk = [first, *itertools.islice(stream, _BATCH_ROWS - 1)]
        yield _encode(chunk, columns, schema, start)
        start += len(chunk)


def _encode(rows: Sequence[Any], columns: Sequence[Column], schema: Any, start: int) -> Any:
    names = {"group", "split", "domain", *(column.name for column in columns)}
    for number, row in enumerate(rows, start):
        if not isinstance(row, Mapping):
            raise SchemaMismatch(f"row {number} is a {type(row).__name__}, expected a mapping (or Arrow batches)")
        if not names - {"domain"} <= row.keys() <= names:
            missing, extra = sorted(names - {"domain"} - row.keys()), sorted(row.keys() - names)
            raise SchemaMismatch(f"row {number}: missing {missing}, not declared {extra}")
    arrays = [
        _texts([row["group"] for row in rows], "group", start, empty=False),
        _texts([row["split"] for row in rows], "split", start, empty=False),
        _texts([row.get("domain", "") for row in rows], "domain", start),
    ]
    for column in columns:
        values = [row[column.name] for row in rows]
        if column.dtype == "string":
            arrays.append(_texts(values, column.name, start))
        else:
            arrays.append(_numbers(values, column, start))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _texts(values: Sequence[Any], name: str, start: int, *, empty: bool = True) -> Any:
    for number, value in enumerate(values, start):
        if not isinstance(value, str) or not (value or empty):
            raise SchemaMismatch(f"row {number}, column {name!r}: expected a string, got {value!r}")
    return pa.array([str(value) for value in values], type=pa.string())


def _numbers(values: Sequence[Any], column: Column, start: int) -> Any:
    target = column.numpy_dtype
    stacked = np.empty((len(values), *column.shape), dtype=target)
    for position, value in enumerate(values):
        where = f"row {start + position}, column {column.name!r}"
        array = np.asarray(value)
        if array.shape != column.shape:
            raise SchemaMismatch(f"{where}: shape {array.shape}, expected {column.shape}")
        if not _fits(array, target):
            raise SchemaMismatch(
                f"{where}: {array.dtype} value {_shown(array)} does not fit {column.dtype}; convert it first"
            )
        stacked[position] = array
    return _pack(stacked, column)


def _fits(array: Any, target: np.dtype[Any]) -> bool:
    """Whether the values keep their meaning: float to float, or integers inside the range."""
    if array.dtype.kind == "f":
        return target.kind == "f"
    if array.dtype.kind not in "iub":
        return False
    if target.kind == "f" or array.dtype == target:
        return True
    limits = np.iinfo(target)
    return bool(array.size == 0 or (int(array.min()) >= limits.min and int(array.max()) <= limits.max))


def _shown(array: Any) -> str:
    return repr(array.item())[:40] if array.ndim == 0 else f"of shape {array.shape}"


def _pack(stacked: Any, column: Column) -> Any:
    buffer = pa.py_buffer(np.ascontiguousarray(stacked))
    if not column.shape:
        return pa.array(stacked.astype(stacked.dtype.newbyteorder("=")), type=column.arrow_type)
    return pa.FixedSizeBinaryArray.from_buffers(column.arrow_type, len(stacked), [None, buffer])


def _fit(batch: Any, columns: Sequence[Column], schema: Any, start: int) -> list[Any]:
    """An Arrow batch or table cast to our schema, as batches."""
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    if "domain" not in table.column_names:
        table = table.append_column("domain", pa.array([""] * table.num_rows, type=pa.string()))
    if set(table.column_names) != set(schema.names):
        raise SchemaMismatch(
            f"batch at row {start}: columns {sorted(table.column_names)}, expected {sorted(schema.names)}"
        )
    by_name = {column.name: column for column in columns}
    arrays = []
    for field in schema:
        array = table.column(field.name)
        where = f"batch at row {start}, column {field.name!r}"
        try:
            array = _cast(array, field.type, by_name.get(field.name))
        except (pa.ArrowException, ValueError) as error:
            raise SchemaMismatch(
                f"{where}: {table.column(field.name).type} does not fit {field.type}: {error}"
            ) from error
        if array.null_count:
            raise SchemaMismatch(f"{where}: {array.null_count} missing values; a store has none")
        arrays.append(array)
    return list(pa.Table.from_arrays(arrays, schema=schema).to_batches())


def _cast(array: Any, target: Any, column: Column | None) -> Any:
    if column is None or not column.shape or pa.types.is_fixed_size_binary(array.type):
        return array.cast(target)
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return array.cast(target)
    if array.null_count:
        return array
    chunks = []
    for chunk in array.chunks:
        values = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        while any(is_of(values.type) for is_of in LISTS):
            lengths = pc.unique(pc.list_value_length(values)).to_pylist()
            if len(lengths) > 1:  # the total may still be right, and values would move into other rows
                raise ValueError(f"lists of different lengths ({lengths[0]} and {lengths[1]})")
            values = values.flatten()
        flat = values.cast(pa.from_numpy_dtype(column.numpy_dtype.newbyteorder("=")))
        chunks.append(_pack(flat.to_numpy().reshape(len(chunk), *column.shape), column))
    return pa.chunked_array(chunks, type=target)
