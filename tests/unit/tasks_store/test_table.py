"""A table of customers, sensors or sentences becomes a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tasks_store import Column, ImportFailed, Manifest, Store, load_split, write_store
from tasks_store.importers.files import TableFiles
from tasks_store.importers.request import TableRequest
from tasks_store.importers.summary import Summary
from tasks_store.importers.table import import_table
from tests.support.sensors import CLASSES, GROUPS, REGRESSION, ROWS, sensors

Import = Callable[..., tuple[Manifest, Summary]]


def test_the_sorted_write_is_the_write_in_memory(import_sensors: Import, tmp_path: Path) -> None:
    """The external sort in many parts publishes the very bytes that write_store does."""
    manifest, summary = import_sensors(**CLASSES, partition_bytes=500)
    table = sensors()
    owner = {}
    for split in manifest.splits:
        owner.update(dict.fromkeys(Store.open(tmp_path / "s").groups(split).names, split))
    rows = [
        {"group": str(sensor), "split": owner[str(sensor)], "note": note}
        for sensor, note in zip(table["sensor"].to_pylist(), table["note"].to_pylist(), strict=True)
    ]
    whole = write_store(rows, tmp_path / "w", name="w", kind="classes", columns=[Column(name="note", dtype="string")])
    assert manifest.fingerprint() == whole.fingerprint()
    assert [file.sha256 for file in manifest.files] == [file.sha256 for file in whole.files]
    assert manifest.index.sha256 == whole.index.sha256
    assert manifest.name == "sensors"
    assert summary.splits == {"test": 4, "train": 14, "validation": 2}
    assert (summary.read, summary.kept, summary.groups, summary.too_small) == (ROWS, ROWS, GROUPS, 0)


@pytest.mark.parametrize("partition_bytes", [200, 3000, 1 << 20])
def test_groups_in_time_order_with_filled_gaps(import_sensors: Import, tmp_path: Path, partition_bytes: int) -> None:
    manifest, summary = import_sensors(**REGRESSION, missing="mean+flag", partition_bytes=partition_bytes)
    assert [(column.name, column.shape, column.fields) for column in manifest.columns] == [
        ("x", (3,), ("wet", "wind", "wet_missing")),
        ("y", (), ("heat",)),
    ]
    assert summary.gaps == {"heat": 3, "wet": 40} and summary.dropped == {"gaps": 3}
    store = Store.open(tmp_path / "s")
    kept = [row for row in sensors().to_pylist() if row["heat"] is not None]
    towns = {store.groups(split).domains[0] for split in store.splits}
    assert len(towns) == 3 and len(store.verify()) == 4
    owner = {domain: split for split in store.splits for domain in store.groups(split).domains}
    training = [row["wet"] for row in kept if owner[row["town"]] == "train" and not np.isnan(row["wet"])]
    mean = float(np.mean(training))
    assert summary.filled == {"wet": pytest.approx(mean, rel=1e-12)}
    assert f"wet={mean:.9g}" in manifest.source
    for split in store.splits:
        data = load_split(store, split)
        for place, name in enumerate(data.names):
            mine = [row for row in kept if f"{row['town']}/{row['sensor']}" == name]
            mine.sort(key=lambda row: row["hour"])
            gap = np.isnan([row["wet"] for row in mine])
            wet = np.where(gap, mean, [row["wet"] for row in mine])
            expected = np.stack([wet, [row["wind"] for row in mine], gap], axis=1).astype(np.float32)
            span = slice(int(data.offsets[place]), int(data.offsets[place]) + len(mine))
            np.testing.assert_array_equal(data.arrays["x"][span], expected)
            np.testing.assert_array_equal(data.arrays["y"][span], np.float32([row["heat"] for row in mine]))


def _as_jsonl(table: Any, place: Path) -> None:
    rows = [{**row, "wet": None if np.isnan(row["wet"]) else row["wet"]} for row in table.to_pylist()]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _as_ipc(table: Any, place: Path, *, stream: bool) -> None:
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(str(place), table.schema) as sink:
        sink.write_table(table, max_chunksize=70)


def _as_csv(table: Any, place: Path) -> None:
    wet = pa.array([None if np.isnan(value) else value for value in table["wet"].to_pylist()], pa.float64())
    table = table.set_column(table.column_names.index("wet"), "wet", wet)
    pacsv.write_csv(table.set_column(0, "town", table["town"].cast(pa.string())), place)


WRITERS: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "CSV": ("csv", _as_csv),
    "JSON lines": ("jsonl", _as_jsonl),
    "IPC file": ("arrow", lambda table, place: _as_ipc(table, place, stream=False)),
    "IPC stream": ("arrow", lambda table, place: _as_ipc(table, place, stream=True)),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_store_also_in_two_files(import_sensors: Import, tmp_path: Path, form: str) -> None:
    suffix, write = WRITERS[form]
    table = sensors().drop_columns(["hue", "ink"])
    for place, part in enumerate((table.slice(0, 150), table.slice(150))):
        write(part, tmp_path / f"part{place}.{suffix}")
    files = tuple(tmp_path / f"part{place}.{suffix}" for place in range(2))
    for options in (CLASSES, {**REGRESSION, "missing": "drop"}):
        expected, before = import_sensors(f"a{options['value']}", **options)
        found, after = import_sensors(f"b{options['value']}", **options, files=files)
        assert found.fingerprint() == expected.fingerprint()
        assert after == before
    assert after.dropped == {"gaps": 42}


def test_arrays_and_bytes(import_sensors: Import, tmp_path: Path) -> None:
    for value, shape, expected in (("hue", (), (3,)), ("ink", (2, 2), (2, 2))):
        manifest, _ = import_sensors(value, **{**CLASSES, "value": (value,)}, shape=shape)
        assert manifest.columns == (Column(name=value, dtype="uint8", shape=expected),)
        names = sensors()["sensor"].to_pylist()
        store = Store.open(tmp_path / value)
        data = load_split(store, "test")
        first = names.index(int(data.names[0]))
        assert data.arrays[value][0].reshape(-1).tolist()[:3] == [first % 251, 1, 2]


def test_rows_are_filtered_and_small_groups_left_out(import_sensors: Import, tmp_path: Path) -> None:
    table = sensors()
    label, wind = table["sensor"].to_pylist(), table["wind"].to_pylist()
    kept = [a for a, b in zip(label, wind, strict=True) if b >= 20 and a not in (3, 4)]
    small = {name for name in kept if kept.count(name) < 2}
    _, summary = import_sensors(**CLASSES, where="wind >= 20", drop_label=("3", "4"))
    assert summary.dropped["--where"] == sum(value < 20 for value in wind)
    assert summary.dropped["--drop-label"] == sum(a in (3, 4) and b >= 20 for a, b in zip(label, wind, strict=True))
    assert summary.too_small == len(small) and summary.groups == len(set(kept) - small)
    assert summary.read == summary.kept + sum(summary.dropped.values())
    assert "\n".join(summary.lines()).count("dropped") == len(summary.dropped)
    _, summary = import_sensors(
        "t", **CLASSES, where=f"sensor != 3 or note = '{table['note'][label.index(3)].as_py()}'"
    )
    assert summary.too_small == 1 and summary.dropped["in groups of fewer than 2 rows"] == 1


def test_a_filter_reads_its_own_columns_only(
    import_sensors: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not every column whose name is part of the filter's text (``wet`` of 'wetter')."""
    asked: list[list[str]] = []

    def watched(self: TableFiles, columns: list[str]) -> Any:
        asked.append(columns)
        return batches(self, columns)

    batches = TableFiles.batches
    monkeypatch.setattr(TableFiles, "batches", watched)
    import_sensors(**CLASSES, where="wind >= 20 or town = 'wetter'")
    assert asked == [["town", "sensor", "wind", "note"]] * 2


def test_a_shape_of_as_many_numbers(import_sensors: Import, tmp_path: Path) -> None:
    manifest, _ = import_sensors(**{**CLASSES, "value": ("hue",)}, shape=(1, 3))
    assert manifest.columns == (Column(name="hue", dtype="uint8", shape=(1, 3)),)
    assert Store.open(tmp_path / "s").verify()


def test_the_cut_by_a_hash_is_stable_and_of_the_seed(import_sensors: Import, tmp_path: Path) -> None:
    first, _ = import_sensors("a", **CLASSES)
    again, _ = import_sensors("b", **CLASSES)
    other, _ = import_sensors("c", **CLASSES, seed=1)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert {name: split.groups for name, split in other.splits.items()} == {"test": 4, "train": 14, "validation": 2}


def test_splits_from_a_column_and_from_a_file(import_sensors: Import, tmp_path: Path) -> None:
    manifest, _ = import_sensors("a", label="sensor", value=("note",), split_column="part")
    assert {name: split.groups for name, split in manifest.splits.items()} == {"train": 7, "validation": 7, "test": 6}
    split_file = tmp_path / "split.json"
    split_file.write_text(
        json.dumps(
            {"note": "by hand", "train": ["town0", "town1"], "test": ["town2"], "validation": ["town3", "town4"]}
        )
    )
    manifest, _ = import_sensors("b", label="sensor", value=("note",), split_by="town", split_file=split_file)
    assert {name: split.groups for name, split in manifest.splits.items()} == {"train": 8, "validation": 8, "test": 4}
    for content, message in (
        ({"train": [0, 1], "test": [2]}, "17 labels of the table are in no split, e.g. '10'; .*--drop-label"),
        ({"train": [0, 1], "test": [1]}, "label '1' is in both 'train' and 'test'"),
        ({"train": [*range(20)], "test": [77]}, "1 labels are not in the table, e.g. '77'"),
        ([], "expected a JSON object"),
        (
            {"train": [0], "val": [1]},
            "split 'val' is none of train, validation, test, .*: write 'validation' for 'val'",
        ),
        ({"Train": [0], "test": [1]}, "write 'train' for 'Train'"),
        ({"fit": [0], "check": [1]}, "split 'check' .*: rename 'check', or cut anew with --split 0.7,0.1,0.2"),
        ({"train": [0], "validation": []}, "the list of split 'validation' is empty: leave it out"),
    ):
        split_file.write_text(json.dumps(content))
        with pytest.raises(ImportFailed, match=message):
            import_sensors("c", label="sensor", value=("note",), split_file=split_file)
    split_file.write_text("{")
    with pytest.raises(ImportFailed, match="cannot read the split file"):
        import_sensors("c", label="sensor", value=("note",), split_file=split_file)


def test_large_lists_are_lists(tmp_path: Path) -> None:
    """As Polars writes them."""
    rows = pa.array([[float(number), 1.0] for number in range(60)], pa.large_list(pa.float32()))
    table = pa.table({"kind": [str(number % 10) for number in range(60)], "hue": rows})
    pq.write_table(table, tmp_path / "t.parquet")
    request = TableRequest(
        files=(tmp_path / "t.parquet",), label="kind", value=("hue",), split="0.6,0.2,0.2", shape=(2,)
    )
    import_table(request, tmp_path / "s")
    assert load_split(Store.open(tmp_path / "s"), "train").arrays["hue"].shape == (36, 2)
