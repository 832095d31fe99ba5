"""The files that ``metadist adapt`` reads and writes: every format, text that stays text, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv, feather

from metadist.errors import DataError
from metadist.serving.answers import ROWS, check_out, kept_columns, write_answers
from metadist.serving.inputs import RawColumn, raw_inputs, targets
from metadist.serving.tables import FORMATS, input_columns, input_values, label_name, read_table, text_columns
from tasks_store.importers import formats

X = RawColumn(name="x", dtype="float32", shape=(2,), fields=("a", "b"))
Y = RawColumn(name="y", dtype="float32", shape=())
TABLE = pa.table({"who": ["007", "08"], "label": ["1", "02"], "a": [0.5, 1.0], "b": [1.5, 2.0]})
SUFFIXES = [".parquet", ".CSV", ".csv", ".tsv", ".jsonl", ".ndjson", ".arrow"]


def written(path: Path, table: pa.Table = TABLE) -> Path:
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if kind == ".tsv" else ",", quoting_style="none"))
    elif kind in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        (feather.write_feather if kind == ".arrow" else pq.write_table)(table, str(path))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_groups_and_labels_stay_text_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"t{suffix}")
    found = read_table(path, text_columns(X, None, None, "who"))
    assert found["who"].to_pylist() == ["007", "08"] and found["label"].to_pylist() == ["1", "02"]
    assert np.array_equal(input_values(found, X, path), [[0.5, 1.5], [1.0, 2.0]])


def test_adapting_reads_what_importing_reads() -> None:
    assert FORMATS == formats.FORMATS


def test_what_is_text() -> None:
    words = RawColumn(name="words", dtype="string", shape=())
    assert text_columns(X, Y, None, None) == set(), "the targets of a regression are numbers"
    assert text_columns(words, None, "kind", "who") == {"words", "kind", "who"}


def test_dates_lines_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"who": "2020-01-01", "n": 1}\n{"who": "2020-01-02", "n": 2}\n')
    assert read_table(path, {"who"})["who"].to_pylist() == ["2020-01-01", "2020-01-02"]
    path = tmp_path / "t.csv"
    path.write_text('who,n\n"two\nlines",1\n"",2\n')
    assert read_table(path, {"who"})["who"].to_pylist() == ["two\nlines", None]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text("a,a\n1,2\n")
    torn = tmp_path / "torn.arrow"
    torn.write_bytes(b"torn")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    written(mixed / "part.parquet")
    assert read_table(mixed).num_rows == 2, "a folder of Parquet files is a table"
    (mixed / "notes.txt").write_text("hello")
    cases = {
        twice: "several columns called a: rename them",
        torn: "cannot read .* as Arrow IPC",
        mixed: "is a folder and also holds notes.txt",
        tmp_path / "t.xlsx": r"the suffix '.xlsx' is none of .parquet, .pq, .csv, .tsv, .jsonl, .ndjson, .arrow",
        tmp_path / "none.csv": "cannot read .*none.csv as CSV",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            read_table(path, {"a"})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [None, (), (2,)])
def test_answers_are_written_a_piece_at_a_time(suffix: str, shape: tuple[int, ...] | None, tmp_path: Path) -> None:
    rows = ROWS + 3
    query = pa.table({"id": np.arange(rows), "a": np.zeros(rows), "b": np.zeros(rows)})
    values = np.arange(rows * max(1, sum(shape or ()))).reshape(rows, *(shape or ())).astype(np.float32)
    labels, asked = [f"0{place % 7}" for place in range(rows)], []

    def answers(start: int, stop: int) -> tuple[list[Any], Any]:
        asked.append((start, stop))
        if shape is None:
            return labels[start:stop], values[start:stop]
        return values[start:stop].tolist(), None

    out = tmp_path / f"out{suffix}"
    target = None if shape is None else RawColumn(name="y", dtype="float32", shape=shape)
    if shape == (2,) and suffix.lower() in (".csv", ".tsv"):
        with pytest.raises(DataError, match=r"column 'predicted' is list<.*, which CSV has no form for; write Parquet"):
            check_out(out, query, X, target)
        return
    check_out(out, query, X, target)
    write_answers(query, X, out, answers, shape=shape)
    found = read_table(out, {"predicted"} if shape is None else ())
    assert found.column_names == ["id", "predicted", *(["probability"] if shape is None else [])]
    assert found["predicted"].to_pylist() == (labels if shape is None else values.tolist())
    assert found["id"].to_pylist() == list(range(rows)) and asked[-2:] == [(0, ROWS), (ROWS, rows)]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_file_that_cannot_take_the_answers(tmp_path: Path) -> None:
    query = pa.table({"point": [{"lat": 1.0}], "raw": [b"1"]})
    for name, column in (("out.csv", "point"), ("out.jsonl", "raw")):
        with pytest.raises(DataError, match=rf"column '{column}' is .* has no form for"):
            check_out(tmp_path / name, query, X, None)
    with pytest.raises(DataError, match="the suffix '' is none of"):
        check_out(tmp_path / "out", query, X, None)


def test_a_number_beyond_float32_is_refused() -> None:
    column = RawColumn(name="x", dtype="float32", shape=(2,))
    with pytest.raises(DataError, match=r"query_x\[0, 1\] is 1e\+39; a model computes in float32, up to 3.4e\+38"):
        raw_inputs([[0.0, 1e39]], column, "query_x")
    with pytest.raises(DataError, match=r"support_y\[1\] is -1e\+300; a model computes in float32"):
        targets([0.0, -1e300], 2, Y)
    with pytest.raises(DataError, match=r"query_x\[0, 1\] is inf; values must be finite"):
        raw_inputs([[0.0, np.inf]], column, "query_x")


def test_the_imported_columns_come_before_others_of_the_stores_names() -> None:
    """A table with columns x and y of its own, whose features and target were imported from others."""
    table = pa.table({"x": [9.0], "y": [8.0], "a": [0.5], "b": [True], "height": [1.75]})
    target = RawColumn(name="y", dtype="float32", shape=(), fields=("height",))
    assert np.array_equal(input_values(table, X, Path("t")), [[0.5, 1.0]]), "booleans are numbers, as in the import"
    assert input_columns(X, table.schema) == ["a", "b"]
    assert label_name(target, table) == "height" and label_name(Y, table) == "y"
    assert kept_columns(table, X).column_names == ["x", "y", "height"], "they are the caller's own"
    packed = pa.table({"x": [[0.5, 1.0]], "a": [3.0]})
    assert np.array_equal(input_values(packed, X, Path("t")), [[0.5, 1.0]]), "b is missing, so x it is"


def test_a_number_called_as_the_stores_column_comes_in_as_it_was_and_as_it_was_exported() -> None:
    column = RawColumn(name="x", dtype="float32", shape=(1,), fields=("x",))
    for values in (pa.array([0.5, 1.0]), pa.array([[0.5], [1.0]])):
        table = pa.table({"x": values})
        assert np.array_equal(input_values(table, column, Path("t")), [[0.5], [1.0]])
        assert kept_columns(table, column).column_names == []
