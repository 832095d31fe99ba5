"""Columns say what they are, and values come back as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks_store import Column, SchemaMismatch
from tasks_store.rows import collect_table
from tasks_store.schema import arrow_schema, check_columns, column_from_json, column_to_json, decode


@pytest.mark.parametrize(
    "options",
    [
        {"name": "group", "dtype": "uint8"},
        {"name": "a b", "dtype": "uint8"},
        {"name": "x", "dtype": "int16"},
        {"name": "x", "dtype": "uint8", "shape": (0,)},
        {"name": "x", "dtype": "string", "shape": (2,)},
    ],
)
def test_refuses_bad_columns(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaMismatch, match=r"column"):
        Column(**options)


def test_refuses_double_names_and_unknown_kinds() -> None:
    column = Column(name="x", dtype="uint8")
    with pytest.raises(SchemaMismatch, match="different names"):
        check_columns([column, column], "classes")
    with pytest.raises(SchemaMismatch, match="'tables' is none of classes, groups, parameters"):
        check_columns([column], "tables")


def test_json_round_trip() -> None:
    column = Column(name="x", dtype="float32", shape=(2, 3), unit="m")
    assert column_from_json(column_to_json(column)) == column


def test_arrays_are_fixed_size_binary_described_in_the_metadata() -> None:
    schema = arrow_schema([Column(name="x", dtype="float32", shape=(2, 3))], "groups")
    assert schema.field("x").type == pa.binary(24)
    assert b'"shape": [2, 3]' in schema.metadata[b"tasks_store"]
    assert b'"kind": "groups"' in schema.metadata[b"tasks_store"]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)])
def test_values_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    column = Column(name="x", dtype=dtype, shape=shape)
    values = np.random.default_rng(0).integers(0, 200, (7, *shape)).astype(dtype)
    rows = [{"group": "g", "split": "s", "x": value} for value in values]
    table = collect_table(rows, [column], "classes")
    found = decode(table.column("x"), column)
    assert found.dtype == values.dtype
    assert found.shape == values.shape
    assert (found == values).all()
    part = decode(table.slice(2, 3).column("x"), column)
    assert (part == values[2:5]).all()
    assert decode(table.slice(0, 0).column("x"), column).shape == (0, *shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(3)}, r"row 1, column 'x': shape \(3,\), expected \(2,\)"),
        ({"x": np.array([300, 0])}, r"row 1, column 'x': int64 .* does not fit uint8"),
        ({"x": np.array([0.5, 0])}, r"row 1, column 'x': float64 .* does not fit uint8"),
        ({"x": None}, r"row 1, column 'x'"),
        ({"group": 7}, r"row 1, column 'group': expected a string, got 7"),
        ({"group": ""}, r"row 1, column 'group': expected a string, got ''"),
        ({"y": 1}, r"row 1: missing \[\], not declared \['y'\]"),
    ],
)
def test_refuses_rows_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    row = {"group": "g", "split": "s", "x": np.array([1, 2], dtype=np.uint8)}
    with pytest.raises(SchemaMismatch, match=message):
        collect_table([row, {**row, **change}], [Column(name="x", dtype="uint8", shape=(2,))], "classes")


def test_refuses_missing_columns_and_strange_rows() -> None:
    column = Column(name="x", dtype="uint8")
    with pytest.raises(SchemaMismatch, match=r"missing \['x'\]"):
        collect_table([{"group": "g", "split": "s"}], [column], "classes")
    with pytest.raises(SchemaMismatch, match="row 0 is a int"):
        collect_table([3], [column], "classes")


def test_arrow_batches_are_taken_in_several_layouts() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    column = Column(name="x", dtype="float32", shape=(2, 2))
    raw = [value.tobytes() for value in values]
    ids = {"group": ["a", "b", "c"], "split": ["s"] * 3}
    layouts = [
        pa.array(raw, type=pa.binary(16)),
        pa.array(raw, type=pa.binary()),
        pa.array(values.reshape(3, 4).tolist(), type=pa.list_(pa.float32(), 4)),
        pa.FixedShapeTensorArray.from_numpy_ndarray(values),
    ]
    for layout in layouts:
        table = collect_table([pa.table({**ids, "x": layout})], [column], "classes")
        assert (decode(table.column("x"), column) == values).all(), layout.type
        assert table.column("domain").to_pylist() == [""] * 3


def test_refuses_arrow_batches_that_do_not_fit() -> None:
    column = Column(name="x", dtype="uint8")
    ids = {"group": ["a", "b"], "split": ["s"] * 2}
    for values, message in (([1, 300], "does not fit"), ([1, None], "1 missing values")):
        with pytest.raises(SchemaMismatch, match=message):
            collect_table([pa.table({**ids, "x": pa.array(values)})], [column], "classes")
    with pytest.raises(SchemaMismatch, match="expected"):
        collect_table([pa.table(ids)], [column], "classes")
    wrong = pa.array([b"abc", b"abcd"], type=pa.binary())
    with pytest.raises(SchemaMismatch, match="does not fit"):
        collect_table([pa.table({**ids, "x": wrong})], [Column(name="x", dtype="uint8", shape=(4,))], "classes")
