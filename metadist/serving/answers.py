"""Answers beside the rows of a query table, written a piece at a time; whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from metadist.errors import DataError
from metadist.serving.inputs import RawColumn
from metadist.serving.tables import delimiter_of, format_of, input_columns, is_bytes

PREDICTED, PROBABILITY = "predicted", "probability"
ROWS = 65_536  # of a piece


def kept_columns(query: pa.Table, inputs: RawColumn) -> pa.Table:
    """The query's own columns, but its inputs and earlier answers."""
    left_out = (*input_columns(inputs, query.schema), PREDICTED, PROBABILITY)
    return query.select([name for name in query.column_names if name not in left_out])


def check_out(out: Path, query: pa.Table, inputs: RawColumn, target: RawColumn | None) -> None:
    """Refuse, before anything is computed, a file that cannot take the answers.

    Raises:
        DataError: an unknown suffix, or a column that the format has no form for.
    """
    kind = format_of(out)
    if kind not in ("CSV", "JSON lines"):
        return
    fields = {field.name: field.type for field in kept_columns(query, inputs).schema}
    if target is not None:
        fields[PREDICTED] = _values_type(target.shape)
    for name, type_ in fields.items():
        if is_bytes(type_) or (kind == "CSV" and pa.types.is_nested(type_)):
            raise DataError(
                f"--out {out}: column {name!r} is {type_}, which {kind} has no form for; write Parquet "
                f"({out.with_suffix('.parquet').name}), or leave the column out of --query"
            )


def write_answers(
    query: pa.Table,
    inputs: RawColumn,
    out: Path,
    answers: Callable[[int, int], tuple[list[Any], Any]],
    *,
    shape: tuple[int, ...] | None,
) -> None:
    """Write the query's own columns and the answers.

    Args:
        query: The table of the queries.
        inputs: Its input column.
        out: The file; the suffix tells the format.
        answers: (start, stop) -> predictions of these rows, and probabilities (None for a regression).
        shape: Of a regression's target; None for labels.

    Raises:
        DataError: the disk does not take them.
    """
    kept, kind = kept_columns(query, inputs), format_of(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    labels = [] if shape is not None else answers(0, min(1, len(query)))[0]
    first = labels[0] if labels else ""
    type_ = _values_type(shape) if shape is not None else pa.int64() if isinstance(first, int) else pa.string()
    schema = pa.schema([*kept.schema, (PREDICTED, type_), *([(PROBABILITY, pa.float32())] if shape is None else [])])
    try:
        with _written(temporary, kind, schema, delimiter_of(out)) as write:
            for start in range(0, len(query), ROWS):
                piece = kept.slice(start, ROWS)
                predicted, probability = answers(start, start + min(ROWS, len(query) - start))
                columns = [*piece.columns, pa.array(predicted, type_)]
                write(pa.table(columns + ([pa.array(probability)] if shape is None else []), schema=schema))
        os.replace(temporary, out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _written(path: Path, kind: str, schema: pa.Schema, delimiter: str) -> Iterator[Callable[[pa.Table], Any]]:
    """What takes one piece after the other."""
    if kind == "JSON lines":
        with path.open("w", encoding="utf-8") as lines:
            yield lambda table: lines.writelines(json.dumps(row, default=str) + "\n" for row in table.to_pylist())
        return
    if kind == "CSV":
        writer = csv.CSVWriter(path, schema, write_options=csv.WriteOptions(delimiter=delimiter))
    elif kind == "Arrow IPC":
        writer = pa.ipc.new_file(str(path), schema)
    else:
        writer = pq.ParquetWriter(path, schema)
    with writer:
        yield writer.write_table if kind == "Parquet" else writer.write


def _values_type(shape: tuple[int, ...]) -> pa.DataType:
    found = pa.float64()
    for _ in shape:
        found = pa.list_(found)
    return found
