"""Damaged stores: an error that says where, never other numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks_store import (
    CorruptStore,
    Store,
    StoreEmpty,
    StoreMissing,
    StoreVersionError,
    TaskStoreError,
    load_manifest,
    load_split,
)
from tasks_store.manifest import Manifest, dump_manifest

Content = dict[str, list[Any]]


def _content(place: Path) -> Content:
    with Store.open(place) as store:
        found: Content = {"": [store.fingerprint]}
        for split in sorted(store.splits):
            index = store.groups(split)
            found[split] = [index.names, index.domains, index.counts.tolist()]
            for group in range(len(index)):
                found[split] += [values.tolist() for values in store.read_group(split, group).values()]
        return found


def _flip(file: Path, position: int, mask: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= mask
    file.write_bytes(bytes(data))


def _data_file(place: Path, split: str = "train") -> Path:
    return next(place / file.path for file in load_manifest(place).files if file.split == split)


@pytest.mark.parametrize(
    ("which", "stride", "mask"),
    [("data", 23, 0x01), ("data", 29, 0xFF), ("data", 31, 0x10), ("index", 17, 0x04), ("manifest", 17, 0x02)],
)
def test_every_flip_is_found_or_harmless(small: Path, which: str, stride: int, mask: int) -> None:
    manifest = load_manifest(small)
    file = {
        "data": _data_file(small),
        "index": small / manifest.index.path,
        "manifest": small / "manifest.json",
    }[which]
    whole, before = file.read_bytes(), _content(small)
    found = 0
    for position in range(0, len(whole), stride):
        _flip(file, position, mask)
        try:
            assert _content(small) == before, f"byte {position} of {which} changed the data unseen"
        except TaskStoreError as error:
            assert "\n" not in str(error)
            assert file.name in str(error) or isinstance(error, StoreVersionError | StoreEmpty)
            found += 1
        file.write_bytes(whole)
    assert found > 0.9 * len(whole) / stride
    assert _content(small) == before


def test_verify_finds_a_flip_anywhere(small: Path) -> None:
    file = _data_file(small)
    whole = file.read_bytes()
    for position in (0, 3, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        _flip(file, position, 0x20)
        with pytest.raises(CorruptStore, match=file.name):
            Store.open(small).verify()
        file.write_bytes(whole)


def test_a_flip_names_the_file_and_the_row_group(tmp_path: Path) -> None:
    from tasks_store import Column, write_store

    rng = np.random.default_rng(0)
    rows = [{"group": f"g{n // 40}", "split": "train", "x": rng.bytes(8192)} for n in range(120)]
    rows = [{**row, "x": np.frombuffer(row["x"], np.uint8)} for row in rows]
    write_store(
        rows,
        tmp_path / "s",
        name="s",
        kind="classes",
        columns=[Column(name="x", dtype="uint8", shape=(8192,))],
    )
    store = Store.open(tmp_path / "s")
    assert store.groups("train").row_groups.tolist() == [0, 1, 2]
    file = _data_file(tmp_path / "s")
    _flip(file, file.stat().st_size // 2, 0x01)
    store = Store.open(tmp_path / "s")
    store.read_group("train", 0)
    with pytest.raises(CorruptStore, match=rf"{file.name}, row group 1: damaged bytes") as caught:
        store.read_group("train", 1)
    assert caught.value.row_group == 1
    assert caught.value.path.endswith(file.name)
    with pytest.raises(CorruptStore, match="row group 1"):
        load_split(store, "train")


def test_page_checksums_are_written_and_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our own checksum of the row group, Parquet's still finds a flip in a page."""
    monkeypatch.setattr("tasks_store.datafile.crc32", lambda data: True)
    monkeypatch.setattr("tasks_store.datafile.DataFile.read", _reading_without_our_checksum)
    file = _data_file(small)
    whole, before = file.read_bytes(), _content(small)
    found = 0
    for position in range(4, len(whole) // 2, 19):
        _flip(file, position, 0x01)
        try:
            _content(small)
        except Exception as error:
            found += "CRC" in str(error) or "checksum" in str(error)
        file.write_bytes(whole)
    assert found > 3
    assert _content(small) == before


def _reading_without_our_checksum(self: Any, row_group: int, crc: int, columns: Any) -> Any:
    from tasks_store.index import row_group_span

    start, end = row_group_span(self._metadata, row_group)
    self._file.seek(start)
    self._window.show(start, bytes(self._file.read(end - start)))
    return self._parquet.read_row_group(row_group, columns=list(columns), use_threads=False)


@pytest.mark.parametrize("cut", [0, 3, 100, -1, -9])
def test_truncated(small: Path, cut: int) -> None:
    file = _data_file(small)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CorruptStore, match=rf"{file.name} has \d+ bytes, expected \d+ \(truncated\?\)"):
        Store.open(small).read_group("train", 0)
    with pytest.raises(CorruptStore):
        Store.open(small).verify()


def test_truncated_index_and_manifest(small: Path) -> None:
    index = small / load_manifest(small).index.path
    whole = index.read_bytes()
    index.write_bytes(whole[:-5])
    with pytest.raises(CorruptStore, match=index.name):
        Store.open(small)
    index.write_bytes(whole)
    manifest = small / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(CorruptStore, match="not a readable manifest"):
        Store.open(small)
    manifest.write_text("[]")
    with pytest.raises(CorruptStore, match="not a readable manifest"):
        Store.open(small)


def test_missing_files(small: Path, tmp_path: Path) -> None:
    _data_file(small).unlink()
    with pytest.raises(StoreMissing, match="named by the manifest but gone"):
        Store.open(small).read_group("train", 0)
    shutil.rmtree(small)
    with pytest.raises(StoreMissing, match=r"no task store at .*small"):
        Store.open(small)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreMissing, match=r"has no manifest\.json"):
        Store.open(tmp_path / "empty")


def test_newer_format(small: Path) -> None:
    manifest = small / "manifest.json"
    body = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**body, "format_version": 7, "unheard_of": {}}))
    with pytest.raises(StoreVersionError, match="has format 7, this tasks_store reads up to 1") as caught:
        Store.open(small)
    assert (caught.value.found, caught.value.supported) == (7, 1)


def test_edited_manifest(small: Path) -> None:
    manifest = small / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"train"', '"tester"'))
    with pytest.raises(CorruptStore, match="does not match its own checksum"):
        Store.open(small)


def test_a_store_without_splits(small: Path) -> None:
    old = load_manifest(small)
    empty = Manifest(name=old.name, kind=old.kind, columns=old.columns, files=(), index=old.index, splits={})
    (small / "manifest.json").write_bytes(dump_manifest(empty))
    with pytest.raises(StoreEmpty, match="has no splits"):
        Store.open(small)


def test_a_manifest_of_other_counts(small: Path) -> None:
    from dataclasses import replace

    old = load_manifest(small)
    splits = {**old.splits, "train": replace(old.splits["train"], rows=14)}
    (small / "manifest.json").write_bytes(dump_manifest(replace(old, splits=splits)))
    with pytest.raises(CorruptStore, match="the index of split 'train' does not agree with the manifest"):
        Store.open(small).groups("train")


def test_verify_compares_values_with_the_manifest(small: Path) -> None:
    from dataclasses import replace

    old = load_manifest(small)
    splits = {**old.splits, "train": replace(old.splits["train"], content_sha256="0" * 64)}
    (small / "manifest.json").write_bytes(dump_manifest(replace(old, splits=splits)))
    with pytest.raises(CorruptStore, match="values of split 'train' are not those of the manifest"):
        Store.open(small).verify()
