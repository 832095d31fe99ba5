"""Support and query sets in files of tables: Parquet, CSV, JSON lines and Arrow IPC."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv, feather, json

from metadist.errors import DataError
from metadist.serving.inputs import RawColumn

FORMATS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".arrow": "Arrow IPC",
    ".ipc": "Arrow IPC",
    ".feather": "Arrow IPC",
}
"""By suffix, as the import of tables has it, which a serving machine lacks: a test holds both to the same."""


def format_of(path: Path) -> str:
    """How a file is read or written, by its suffix in upper or lower case.

    Raises:
        DataError: no such suffix is known.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{path}: the suffix {path.suffix!r} is none of {', '.join(FORMATS)}, which tell the format")
    return FORMATS[suffix]


def delimiter_of(path: Path) -> str:
    """What stands between the columns of a CSV file."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def text_columns(inputs: RawColumn, target: RawColumn | None, label: str | None, group: str | None) -> frozenset[str]:
    """Columns that are text whatever they look like: groups, labels of classes, and inputs that a model takes so."""
    labels = {label or "label"} if target is None else set()
    return frozenset({*labels, *([group] if group else []), *([inputs.name] if inputs.dtype == "string" else [])})


def read_table(path: Path, text: Collection[str] = ()) -> pa.Table:
    """A file as a table; a folder is that of a Parquet table in several files.

    Args:
        path: The suffix tells the format.
        text: Columns of a CSV or JSON lines file that are read as text, so that 007 stays 007; in CSV an empty one is
            a gap.

    Raises:
        DataError: there is no such file, it is not whole, or a column stands in it twice.
    """
    kind = _kind_of_folder(path) if path.is_dir() else format_of(path)
    try:
        if kind == "CSV":
            table = _read_csv(path, text)
        elif kind == "JSON lines":
            table = _read_json(path, text)
        elif kind == "Arrow IPC":
            table = feather.read_table(path)
        else:
            table = pq.read_table(path)
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"cannot read {path} as {kind}: {(str(error).splitlines() or [''])[0]}") from None
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path} has several columns called {', '.join(repeated)}: rename them")
    return table


def _kind_of_folder(path: Path) -> str:
    kinds = {".parquet", ".pq"}
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name[0] not in "._"]
    other = [file.name for file in files if file.suffix.lower() not in kinds]
    if other or not files:
        what = f"also holds {other[0]}" if other else "holds no file"
        raise DataError(f"{path} is a folder and {what}: name a file, or a folder of Parquet files alone")
    return "Parquet"


def _read_csv(path: Path, text: Collection[str]) -> pa.Table:
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter_of(path), newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types={name: pa.string() for name in text}),
    )
    for place, name in enumerate(table.column_names):
        if name in text and table.column_names.count(name) == 1:
            column = table.column(place)
            filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
            table = table.set_column(place, name, filled)
    return table


def _read_json(path: Path, text: Collection[str]) -> pa.Table:
    table = json.read_json(path, parse_options=json.ParseOptions(newlines_in_values=False))
    dates = [
        name for name in text if name in table.column_names and pa.types.is_timestamp(table.schema.field(name).type)
    ]
    if not dates:  # pyarrow takes text that looks like a date for one
        return table
    strings = pa.schema([(name, pa.string()) for name in dates])
    return json.read_json(path, parse_options=json.ParseOptions(explicit_schema=strings))


def input_values(table: pa.Table, column: RawColumn, path: Path) -> NDArray[Any]:
    """The raw inputs (rows, *shape): where an import packed columns into one, these columns, if all are here; else the
    one, as bytes as a store holds them, lists, or scalars.

    Raises:
        DataError: no such column, nulls, or values of another size.
    """
    if _is_as_imported(column, table.schema):
        parts = [_numbers(_column(table, name, path), name, path) for name in column.fields]
        return np.stack(parts, axis=1).reshape(len(table), *column.shape)
    array = _column(table, column.name, path)
    if is_bytes(array.type):
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


def input_columns(column: RawColumn, schema: pa.Schema) -> list[str]:
    """Those of a table's columns that `input_values` reads."""
    wanted = column.fields if _is_as_imported(column, schema) else (column.name,)
    return [name for name in wanted if name in schema.names]


def _is_as_imported(column: RawColumn, schema: pa.Schema) -> bool:
    """Whether a table has the columns that the import packed; another one may stand there under the store's name. Where
    neither is whole, the packed ones are what is asked for."""
    if not column.fields or column.name not in schema.names:
        return bool(column.fields)
    if column.name in column.fields:  # a number called x, or what an export made of it
        type_ = schema.field(column.name).type
        return not (pa.types.is_nested(type_) or is_bytes(type_))
    return set(column.fields) <= set(schema.names)


def is_bytes(type_: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_))


def label_name(column: RawColumn | None, table: pa.Table) -> str:
    """The label column of a support table: ``label``, or the target's name before the import or here."""
    if column is None:
        return "label"
    own = [name for name in (*column.fields, column.name) if name in table.column_names]
    return own[0] if own else column.name


def label_values(table: pa.Table, name: str, path: Path) -> list[Any]:
    """A column's values as Python ones.

    Raises:
        DataError: no such column, or nulls.
    """
    values: list[Any] = _column(table, name, path).to_pylist()
    return values


def _numbers(array: Any, name: str, path: Path) -> NDArray[Any]:
    if pa.types.is_boolean(array.type) or pa.types.is_decimal(array.type):  # as the import takes them
        array = array.cast(pa.float64())
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise DataError(f"{path}: column {name!r} is {array.type}, not numbers")
    values: NDArray[Any] = array.to_numpy()  # what is beyond float32 is refused with the inputs
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def _column(table: pa.Table, name: str, path: Path) -> Any:
    if name not in table.column_names:
        raise DataError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
    array = table.column(name)
    if array.null_count:
        raise DataError(f"{path}: column {name!r} has {array.null_count} nulls")
    return array
