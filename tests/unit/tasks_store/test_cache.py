"""A split loads to the same numbers from memory and from the node's cache, which is made once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks_store import CorruptStore, SchemaMismatch, SplitData, Store, load_split


def _equal(a: SplitData, b: SplitData) -> bool:
    return (
        a.names == b.names
        and a.domains == b.domains
        and bool((a.offsets == b.offsets).all())
        and all((a.arrays[name] == b.arrays[name]).all() for name in a.arrays)
    )


def test_memory_equals_groups(small: Path) -> None:
    store = Store.open(small)
    split = load_split(store, "train")
    assert (split.num_groups, split.num_rows, split.kind) == (3, 15, "classes")
    assert split.offsets.tolist() == [0, 5, 10, 15]
    assert split.fingerprint == store.fingerprint
    for group in range(3):
        for name, values in store.read_group("train", group).items():
            assert (split.arrays[name][split.offsets[group] : split.offsets[group + 1]] == values).all()


def test_mapped_equals_memory(small: Path, tmp_path: Path) -> None:
    store = Store.open(small)
    plain = load_split(store, "train")
    mapped = load_split(store, "train", cache_dir=tmp_path / "cache", memory_limit=0)
    assert _equal(plain, mapped)
    assert list(plain.arrays) == list(mapped.arrays)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(made) == 3  # text stays in memory
    again = load_split(Store.open(small), "train", cache_dir=tmp_path / "cache", memory_limit=0)
    assert _equal(plain, again)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == made


@pytest.mark.parametrize("limit", [0, 2**28])
def test_arrays_are_read_only(small: Path, tmp_path: Path, limit: int) -> None:
    split = load_split(Store.open(small), "test", cache_dir=tmp_path / "cache", memory_limit=limit)
    for array in (*split.arrays.values(), split.offsets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_many_at_once_make_one_cache(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks_store import cache

    made: list[Path] = []
    real = cache._make_cache

    def counting(folder: Path, *rest: Any) -> None:
        made.append(folder)
        real(folder, *rest)

    monkeypatch.setattr(cache, "_make_cache", counting)
    barrier = threading.Barrier(4)
    found: list[SplitData] = []

    def work() -> None:
        with Store.open(small) as store:
            barrier.wait()
            found.append(load_split(store, "train", cache_dir=tmp_path / "cache", memory_limit=0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(made) == 1
    assert all(_equal(found[0], other) for other in found)


def test_a_crash_while_making_leaves_no_cache(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks_store.cache._fill", dying)
        with pytest.raises(KeyboardInterrupt):
            load_split(Store.open(small), "train", cache_dir=tmp_path / "cache", memory_limit=0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    load_split(Store.open(small), "train", cache_dir=tmp_path / "cache", memory_limit=0)


def test_a_damaged_cache_names_the_folder(small: Path, tmp_path: Path) -> None:
    store = Store.open(small)
    load_split(store, "train", cache_dir=tmp_path / "cache", memory_limit=0)
    file = next((tmp_path / "cache").rglob("image.npy"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(CorruptStore, match=f"delete {file.parent} and run again"):
        load_split(store, "train", cache_dir=tmp_path / "cache", memory_limit=0)
    with file.open("wb") as sink:
        np.save(sink, np.zeros((15, 4, 5), np.uint8))
    with pytest.raises(CorruptStore, match=r"holds uint8 \(15, 4, 5\), expected uint8 \(15, 4, 4\)"):
        load_split(store, "train", cache_dir=tmp_path / "cache", memory_limit=0)


def test_the_default_place_is_under_home(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    load_split(Store.open(small), "train", memory_limit=0)
    assert list((tmp_path / "home" / "cache").rglob("image.npy"))


def test_other_content_has_another_cache(small: Path, rows: list[Any], write_small: Any, tmp_path: Path) -> None:
    rows[0]["value"] += 1
    write_small("other", [row for row in rows if row["split"] == rows[0]["split"]])
    split = rows[0]["split"]
    for place in (small, tmp_path / "other"):
        load_split(Store.open(place), split, cache_dir=tmp_path / "cache", memory_limit=0)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_unknown_split(small: Path) -> None:
    with pytest.raises(SchemaMismatch, match="no split 'dev'"):
        load_split(Store.open(small), "dev")
