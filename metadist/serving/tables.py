"""Support and query sets in Parquet files, and answers written beside them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv, json

from metadist.errors import DataError
from metadist.serving.inputs import RawColumn

PREDICTED, PROBABILITY = "predicted", "probability"


def read_table(path: Path) -> pa.Table:
    """A Parquet, CSV or JSON lines file (by suffix) as a table.

    Raises:
        DataError: there is no such file, or it is not whole.
    """
    kind = {".csv": "CSV", ".jsonl": "JSON lines"}.get(path.suffix, "Parquet")
    try:
        if kind == "CSV":
            return csv.read_csv(path)
        return json.read_json(path) if kind == "JSON lines" else pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path} as {kind}: {str(error).splitlines()[0]}") from None


def input_values(table: pa.Table, column: RawColumn, path: Path) -> NDArray[Any]:
    """The raw inputs (rows, *shape): bytes as a store holds them, lists, or scalars; or, where an import packed several
    columns into one, these columns.

    Raises:
        DataError: no such column, nulls, or values of another size.
    """
    if column.fields and column.name not in table.column_names:
        parts = [_numbers(_column(table, name, path), name, path) for name in column.fields]
        return np.stack(parts, axis=1).reshape(len(table), *column.shape)
    array = _column(table, column.name, path)
    if pa.types.is_binary(array.type) or pa.types.is_fixed_size_binary(array.type):
        dtype = np.dtype(column.dtype).newbyteorder("<")
        size = math.prod(column.shape) * dtype.itemsize
        blobs: list[bytes] = array.to_pylist()
        wrong = next((len(blob) for blob in blobs if len(blob) != size), size)
        if wrong != size:
            raise DataError(
                f"{path}: {column.name!r} has a value of {wrong} bytes; {column.dtype} of shape "
                f"{column.shape} takes {size}"
            )
        return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), *column.shape)
    try:
        values = np.array(array.to_pylist())
        return values.reshape(len(values), *column.shape)
    except ValueError:
        raise DataError(f"{path}: {column.name!r} does not hold values of shape {column.shape}") from None


def label_name(column: RawColumn | None, table: pa.Table) -> str:
    """The label column of a support table: ``label``, or the target's name here or before the import."""
    if column is None:
        return "label"
    own = [name for name in (column.name, *column.fields) if name in table.column_names]
    return own[0] if own else column.name


def label_values(table: pa.Table, name: str, path: Path) -> list[Any]:
    """A column's values as Python ones.

    Raises:
        DataError: no such column, or nulls.
    """
    values: list[Any] = _column(table, name, path).to_pylist()
    return values


def write_answers(
    query: pa.Table, inputs: RawColumn, predicted: list[Any], probability: list[float] | None, out: Path
) -> None:
    """Write the query's own columns but the inputs, and the answers, as Parquet or CSV; whole or not at all."""
    left_out = (inputs.name, *inputs.fields, PREDICTED, PROBABILITY)
    kept = query.select([name for name in query.column_names if name not in left_out])
    table = kept.append_column(PREDICTED, pa.array(predicted))
    if probability is not None:
        table = table.append_column(PROBABILITY, pa.array(probability, pa.float32()))
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        (csv.write_csv if out.suffix == ".csv" else pq.write_table)(table, temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _numbers(array: Any, name: str, path: Path) -> NDArray[np.float32]:
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise DataError(f"{path}: column {name!r} is {array.type}, not numbers")
    return np.asarray(array.to_numpy(), np.float32)


def _column(table: pa.Table, name: str, path: Path) -> Any:
    if name not in table.column_names:
        raise DataError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
    array = table.column(name)
    if array.null_count:
        raise DataError(f"{path}: column {name!r} has {array.null_count} nulls")
    return array
