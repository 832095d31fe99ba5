"""What an import of a table refuses; the message names the flag that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks_store import ImportFailed, SchemaMismatch
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table
from tests.support.sensors import CLASSES, REGRESSION, sensors

Import = Callable[..., Any]

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no role": ({"label": None}, "either --label COL .* or --target COL"),
    "two roles": ({"target": "heat"}, "either --label COL .* or --target COL"),
    "label and group": ({"group": ("town",)}, "--group goes with --target"),
    "target alone": ({"label": None, "target": "heat"}, "--target heat needs --group"),
    "missing": ({"missing": "zero"}, "'zero' is none of error, drop, mean\\+flag"),
    "no split": ({"split": None}, "--split 0.7,0.1,0.2 .*--split-by COL .*--split-column COL or --split-file"),
    "two splits": ({"split_column": "part"}, "leave out --split, --split-by and --split-file"),
    "split and file": ({"split_file": "x.json"}, "leave out --split$"),
    "shares": ({"split": "0.7,0.2"}, "expected the shares of train, validation, test"),
    "sum": ({"split": "0.7,0.2,0.2"}, "with the sum 1"),
    "few": ({"label": "town", "split": "0.98,0.01,0.01"}, "5 labels are too few .* validation would be empty"),
    "few values": ({"split_by": "town", "split": "0.98,0.01,0.01"}, "5 values of town are too few"),
    "no label": ({"label": "intent"}, "--label: .* has no column 'intent'; it has town, sensor"),
    "no split-by": ({"split_by": "area"}, "--split-by: .* has no column 'area'"),
    "no value": ({"value": ("q*",)}, "--value 'q\\*' matches no column; there are town"),
    "nothing to see": ({"value": ()}, "name the columns a task sees with --value"),
    "mixed": ({"value": ("wet", "note")}, "'note' is string: several columns must be numbers"),
    "bytes": ({"value": ("ink",)}, "say what its bytes are with --shape"),
    "wrong shape": ({"value": ("ink",), "shape": (3, 3)}, "'ink'"),
    "gaps": ({"value": ("wet", "wind")}, "40 of 400 rows have gaps .*wet 40.*--missing drop .*--missing mean\\+flag"),
    "split of rows": (
        {"label": "town", "split": None, "split_column": "part"},
        "lies in two splits.*--split 0.7,0.1,0.2.*--split-by domain",
    ),
    "split-by of rows": ({"label": "town", "split_by": "sensor"}, "two values of --split-by sensor.*--split 0.7"),
    "drop nothing": ({"drop_label": ("oos",)}, "--drop-label oos: no row has such a label"),
    "drop one of two": ({"drop_label": ("3", "04")}, "--drop-label 04: no row has such a label; did you mean '4'"),
    "drop filtered": ({"drop_label": ("3",), "where": "sensor != 3"}, "--drop-label 3: no row that --where keeps"),
    "shape of text": ({"shape": (2, 2)}, "--shape 2,2: --value 'note' is text, which has no shape: leave it out"),
    "shape of numbers": ({"value": ("wind",), "shape": (1,)}, "--shape 1: the numbers of --value .*: leave it out"),
    "shape of others": ({"value": ("hue",), "shape": (2, 2)}, "--shape 2,2 is of 4 numbers, and .*'hue' has 3"),
    "label of lists": ({"label": "hue"}, "--label: column 'hue' is fixed_size_list.*, which is no single value"),
    "order by lists": ({"order_by": ("hue",)}, "--order-by: column 'hue' is fixed_size_list"),
    "split of other names": ({"split": None, "split_column": "town"}, "split 'town0' is none of .*: rename 'town0'"),
    "nothing left": ({"where": "wind > 1000"}, "no group of 2 or more rows is left .*400 --where.*look at --where"),
    "where column": ({"where": "speed > 1"}, "there is no column 'speed'; there are town"),
    "where value": ({"where": "wind > fast"}, "'fast' is not a value of 'wind', which is int16"),
    "where code": ({"where": "wind > len(x)"}, "'len' is not a value of 'wind'"),
    "where more": ({"where": "wind > 3 4"}, "'4' stands where 'and' or 'or' should"),
    "where half": ({"where": "wind >"}, "ends where a value should stand; expected COLUMN op VALUE"),
    "where bracket": ({"where": "(wind > 1"}, "a bracket is not closed"),
    "where sign": ({"where": "wind => 3"}, "'>' stands where a value should; expected COLUMN op VALUE"),
    "where no column": ({"where": "> 3"}, "'>' stands where a column should; expected COLUMN op VALUE"),
    "where in": ({"where": "wind in (1,2)"}, "'in' is no operator; expected COLUMN op VALUE"),
    "where text": ({"where": "town > 3"}, "'town' is text .* quote the value"),
    "suffix": ({"files": ("a.xlsx",)}, "'.xlsx' is none of .parquet"),
    "no file": ({"files": ("none.parquet",)}, "cannot read none.parquet as Parquet"),
    "no files": ({"files": ()}, "--from FILE"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(import_sensors: Import, tmp_path: Path, case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises((ImportFailed, SchemaMismatch), match=message):
        import_sensors(**{**CLASSES, **options})
    assert not (tmp_path / "s" / "manifest.json").exists()


REFUSED_GROUPS: dict[str, tuple[dict[str, Any], str]] = {
    "seen answer": ({"value": ("heat", "wet")}, "'heat' is both --target and --value"),
    "text target": ({"target": "note"}, "--target 'note' is string, not a number; for classes use --label"),
    "gaps": ({}, "42 of 400 rows have gaps \\(by column: heat 3, wet 40\\)"),
}


@pytest.mark.parametrize("case", REFUSED_GROUPS)
def test_refused_groups(import_sensors: Import, case: str) -> None:
    options, message = REFUSED_GROUPS[case]
    with pytest.raises(ImportFailed, match=message):
        import_sensors(**{**REGRESSION, **options})


BAD_TABLES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "beyond float32": ({"a": [1, 1], "v": [1e39, 1.0]}, {}, "'v' has numbers beyond float32"),
    "filled text": ({"a": [1, 1], "v": ["x", None]}, {"missing": "mean+flag"}, "'v' \\(1 gaps\\) is none"),
    "no mean": ({"a": [1, 1], "v": [None, float("nan")]}, {"missing": "mean+flag"}, "no value in the split 'train'"),
    "joint": (
        {"a": ["1/2", "1"], "b": ["3", "2/3"], "v": [1.0, 2.0], "y": [1.0, 2.0]},
        {"label": None, "target": "y", "group": ("a", "b")},
        "a value of 'a' has '/' in it",
    ),
    "ragged": ({"a": [1, 1, 1], "v": [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]}, {"shape": (2,)}, "different lengths"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(tmp_path: Path, case: str) -> None:
    columns, options, message = BAD_TABLES[case]
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    request = {"files": (tmp_path / "t.parquet",), "label": "a", "value": ("v",), "split": "1,0,0", **options}
    with pytest.raises((ImportFailed, SchemaMismatch), match=message):
        import_table(TableRequest(**request), tmp_path / "s")


def test_damaged_files_and_files_of_two_schemas(import_sensors: Import, sensor_file: Path, tmp_path: Path) -> None:
    pq.write_table(sensors().drop_columns(["wet"]), tmp_path / "other.parquet")
    with pytest.raises(ImportFailed, match=r"different columns \(wet in one of them only\)"):
        import_sensors(**CLASSES, files=(sensor_file, tmp_path / "other.parquet"))
    pq.write_table(sensors(), sensor_file, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(sensor_file.read_bytes())
    at = data.index(b"note 200")
    data[at : at + 4] = b"vote"
    sensor_file.write_bytes(bytes(data))
    with pytest.raises(ImportFailed, match=r"cannot read .*sensors\.parquet as Parquet: .*CRC"):
        import_sensors(**CLASSES)
