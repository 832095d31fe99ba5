"""What is written is what is read; a store is whole or not there; nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks_store import (
    Column,
    Manifest,
    SchemaMismatch,
    Store,
    StoreEmpty,
    StoreExists,
    StoreMissing,
    TaskStoreError,
    load_manifest,
    write_store,
)
from tasks_store.index import plan_row_groups
from tasks_store.storage import Location

Write = Callable[..., Manifest]


def test_round_trip(small: Path, rows: list[dict[str, Any]]) -> None:
    with Store.open(small) as store:
        assert set(store.splits) == {"train", "validation", "test"}
        groups = store.groups("train")
        assert groups.names == ["class-0", "class-1", "class-2"]
        assert groups.domains == ["even", "odd", "even"]
        assert groups.counts.tolist() == [5, 5, 5]
        for split in store.splits:
            for number, name in enumerate(store.groups(split).names):
                mine = [row for row in rows if row["group"] == name]
                found = store.read_group(split, number)
                assert (found["image"] == np.stack([row["image"] for row in mine])).all()
                assert (found["vector"] == np.stack([row["vector"] for row in mine])).all()
                assert found["value"].tolist() == [row["value"] for row in mine]
                assert found["text"].tolist() == [row["text"] for row in mine]


def test_columns_and_name_by_default(tmp_path: Path) -> None:
    """Those of the first row; a later row of another shape, and what is neither text nor numbers, is refused."""
    value = {"image": np.full((2, 3), 7, np.uint8), "half": np.float16(0.5), "exact": 0.1, "count": 3, "text": "a"}
    rows = [{"group": "a", "split": "train", **value} for _ in range(2)]
    manifest = write_store(iter(rows), tmp_path / "mine")
    assert (manifest.name, manifest.kind) == ("mine", "classes")
    assert [(column.name, column.dtype, column.shape) for column in manifest.columns] == [
        ("image", "uint8", (2, 3)), ("half", "float32", ()), ("exact", "float64", ()), ("count", "int64", ()),
        ("text", "string", ()),
    ]  # fmt: skip
    found = Store.open(tmp_path / "mine").read_group("train", 0)
    assert found["exact"].tolist() == [0.1, 0.1] and (found["image"] == 7).all() and len(found["image"]) == 2
    with pytest.raises(SchemaMismatch, match="image"):
        write_store([rows[0], {**rows[1], "image": np.zeros((3, 3), np.uint8)}], tmp_path / "other")
    for wrong in (None, True, 1j):
        with pytest.raises(SchemaMismatch, match=r"'text': .* neither text nor numbers; name the columns"):
            write_store([{**rows[0], "text": wrong}], tmp_path / "wrong")
    with pytest.raises(StoreEmpty):
        write_store([], tmp_path / "empty")
    with pytest.raises(SchemaMismatch, match="columns of a RecordBatch are not known"):
        write_store([pa.RecordBatch.from_pydict({"group": ["a"]})], tmp_path / "batch")


def test_columns_can_be_chosen(small: Path) -> None:
    store = Store.open(small)
    assert set(store.read_group("test", 0, ["value"])) == {"value"}
    with pytest.raises(SchemaMismatch, match=r"not \['pixels'\]"):
        store.read_group("test", 0, ["pixels"])
    with pytest.raises(SchemaMismatch, match=r"groups 0\.\.1, asked for 2"):
        store.read_group("test", 2)
    with pytest.raises(SchemaMismatch, match="no split 'dev'; it has test, train, validation"):
        store.groups("dev")


def test_the_order_of_rows_of_different_groups_is_irrelevant(write_small: Write, rows: list[Any]) -> None:
    by_group = sorted(rows, key=lambda row: row["group"], reverse=True)  # stable: order inside a group stays
    first, second = write_small("a", rows), write_small("b", by_group)
    assert first.fingerprint() == second.fingerprint()
    assert [file.sha256 for file in first.files] == [file.sha256 for file in second.files]


def test_the_fingerprint_sees_content_only(write_small: Write, rows: list[Any]) -> None:
    plain = write_small("a").fingerprint()
    assert write_small("b", source="elsewhere", licence="MIT", name="other").fingerprint() == plain
    rows[3]["value"] += 1
    assert write_small("c", rows).fingerprint() != plain
    rows[3]["value"] -= 1
    moved = [{**row, "domain": "x"} if row["group"] == "class-0" else row for row in rows]
    assert write_small("d", moved).fingerprint() != plain
    assert write_small("e", kind="groups").fingerprint() != plain


def test_layout_on_disk(small: Path) -> None:
    manifest = load_manifest(small)
    for entry in (*manifest.files, manifest.index):
        assert entry.sha256[:16] in entry.path
    data = pq.ParquetFile(small / manifest.files[0].path)
    chunk = {
        data.metadata.row_group(0).column(n).path_in_schema: data.metadata.row_group(0).column(n)
        for n in range(data.metadata.num_columns)
    }
    assert chunk["image"].compression == "ZSTD"
    assert not chunk["image"].is_stats_set
    assert chunk["group"].is_stats_set
    assert data.schema_arrow.field("image").type == pa.binary(16)
    index = pq.read_table(small / manifest.index.path)
    assert index.column_names[:7] == ["group", "split", "domain", "file", "row_group", "offset", "count"]


def test_large_classes_have_their_own_row_group() -> None:
    assert plan_row_groups([600, 600], row_bytes=84 * 84 * 3) == [(0, 1), (1, 2)]
    plan = plan_row_groups([20] * 1000, row_bytes=784)
    assert [last for _, last in plan][-1] == 1000
    assert all(a[1] == b[0] for a, b in pairwise(plan))
    assert all((last - first) * 20 * 784 <= 256 * 1024 for first, last in plan)
    assert plan_row_groups([], row_bytes=4) == []


def test_many_groups_share_row_groups(tmp_path: Path) -> None:
    rows = [{"group": f"u{n:05d}", "split": "train", "x": float(n)} for n in range(9000)]
    write_store(rows, tmp_path / "s", name="s", kind="groups", columns=[Column(name="x", dtype="float64")])
    store = Store.open(tmp_path / "s")
    groups = store.groups("train")
    assert len(set(groups.row_groups.tolist())) == 3
    for number in (0, 4095, 4096, 8999):
        assert store.read_group("train", number)["x"].tolist() == [float(number)]
    assert len(store.verify()) == 2


def test_verify_lists_every_file(small: Path) -> None:
    assert len(Store.open(small).verify()) == 4


def test_file_uris(small: Path, tmp_path: Path, rows: list[Any]) -> None:
    uri = (tmp_path / "by-uri").as_uri()
    columns = load_manifest(small).columns
    manifest = write_store(rows, uri, name="u", kind="classes", columns=columns)
    assert manifest.fingerprint() == Store.open(small).fingerprint == Store.open(uri).fingerprint
    assert Store.open(uri).verify()


def test_object_stores_take_the_same_way(write_small: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(Location, "is_local", property(lambda self: False))
    manifest = write_small()
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == sorted(
        ["manifest.json", manifest.index.path, *(file.path for file in manifest.files)]
    )
    assert Store.open(tmp_path / "small").verify()
    with pytest.raises(StoreExists):
        write_small()


def test_unknown_scheme() -> None:
    with pytest.raises(TaskStoreError, match="cannot use 'nowhere://x/y' as a store location"):
        Store.open("nowhere://x/y")


def test_never_overwrites(write_small: Write, small: Path) -> None:
    before = (small / "manifest.json").read_bytes()
    with pytest.raises(StoreExists, match="holds a store already"):
        write_small()
    assert (small / "manifest.json").read_bytes() == before


def test_refuses_a_folder_with_other_files(write_small: Write, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.tex").write_text("x")
    with pytest.raises(StoreExists, match=r"it holds 'thesis\.tex'"):
        write_small()


def test_of_two_writers_one_wins(write_small: Write, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_store.writer.refuse_overwriting", lambda location: None)
    before = (small / "manifest.json").read_bytes()
    with pytest.raises(StoreExists):
        write_small(source="the second one")
    assert (small / "manifest.json").read_bytes() == before


def test_a_crash_leaves_no_visible_store(write_small: Write, tmp_path: Path, rows: list[Any]) -> None:
    def dying() -> Iterator[Any]:
        yield from rows[:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_small(rows=dying())
    with pytest.raises(StoreMissing):
        Store.open(tmp_path / "small")
    write_small()
    assert Store.open(tmp_path / "small").verify()


def test_a_crash_before_the_manifest(write_small: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks_store.writer.dump_manifest", dying)
        with pytest.raises(KeyboardInterrupt):
            write_small()
    assert list((tmp_path / "small").glob("*.parquet"))  # data are there, but nothing names them
    with pytest.raises(StoreMissing, match=r"has no manifest\.json"):
        Store.open(tmp_path / "small")
    write_small()
    assert Store.open(tmp_path / "small").verify()


def test_empty_input(write_small: Write) -> None:
    with pytest.raises(StoreEmpty, match="no rows to write"):
        write_small(rows=[])


def test_a_group_lies_in_one_split_and_domain(write_small: Write, rows: list[Any]) -> None:
    with pytest.raises(SchemaMismatch, match="group 'class-0' lies in two splits"):
        write_small(rows=[*rows, {**rows[0], "group": "class-0", "split": "test", "domain": "even"}])
    with pytest.raises(SchemaMismatch, match="group 'class-0' has rows of two domains"):
        write_small(rows=[*rows, {**rows[0], "group": "class-0", "split": "train", "domain": "odd"}])
    with pytest.raises(SchemaMismatch, match=r"split name '\.\./x'"):
        write_small(rows=[{**row, "split": "../x"} for row in rows])


def test_manifest_is_readable_json(small: Path) -> None:
    body = json.loads((small / "manifest.json").read_text())
    assert body["format_version"] == 1
    assert body["fingerprint"] == Store.open(small).fingerprint
    assert body["splits"]["train"]["groups"] == 3
