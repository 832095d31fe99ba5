"""A folder of pictures becomes a store; a broken picture is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks_store import ImportFailed, Store, load_split
from tasks_store.importers.images import import_images


def _folder(place: Path, classes: range = range(10), pictures: int = 3) -> Path:
    for label in classes:
        (place / f"c{label}").mkdir(parents=True)
        for number in range(pictures):
            pixels = np.full((8, 12, 3), (20 * label, 10 * number, 7), np.uint8)
            Image.fromarray(pixels).save(place / f"c{label}" / f"{number}.png")
    return place


def test_classes_sizes_and_broken_files(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pictures")
    (folder / "c3" / "1.png").write_bytes(b"no picture")
    (folder / "c4" / "2.png").write_bytes((folder / "c4" / "2.png").read_bytes()[:45])
    (folder / "c5" / "notes.txt").write_text("x")
    manifest, summary, broken = import_images(folder, tmp_path / "s", size=4)
    assert [Path(line.split(":")[0]).parent.name for line in broken] == ["c3", "c4"]
    assert (summary.read, summary.kept, summary.dropped["broken"]) == (30, 28, 2)
    assert summary.splits == {"test": 2, "train": 7, "validation": 1}
    assert manifest.columns[0].shape == (4, 4, 3)
    store = Store.open(tmp_path / "s")
    assert len(store.verify()) == 4
    data = load_split(store, "train")
    for place, name in enumerate(data.names):
        label, rows = int(name[1:]), data.arrays["image"][data.offsets[place] : data.offsets[place + 1]]
        assert {tuple(pixel) for pixel in rows.reshape(-1, 3)} <= {(20 * label, 10 * n, 7) for n in range(3)}
    gray, _, _ = import_images(folder, tmp_path / "g", size=16, gray=True, split="0.8,0.1,0.1")
    assert gray.columns[0].shape == (16, 16) and gray.splits["train"].groups == 8


def test_splits_as_folders_and_from_a_file(tmp_path: Path) -> None:
    _folder(tmp_path / "p" / "train", range(3))
    _folder(tmp_path / "p" / "test", range(3, 5))
    _, summary, _ = import_images(tmp_path / "p", tmp_path / "a", size=4, split_dirs=True)
    assert summary.splits == {"test": 2, "train": 3}
    (tmp_path / "f.json").write_text(json.dumps({"train": ["c0"], "test": ["c1", "c2"]}))
    _, summary, _ = import_images(tmp_path / "p" / "train", tmp_path / "b", size=4, split_file=tmp_path / "f.json")
    assert summary.splits == {"test": 2, "train": 1}
    (tmp_path / "p" / "train").rename(tmp_path / "p" / "fit")
    (tmp_path / "p" / "test").rename(tmp_path / "p" / "val")
    with pytest.raises(ImportFailed, match=r"split 'fit' is none of train, .*: rename 'fit'"):
        import_images(tmp_path / "p", tmp_path / "c", size=4, split_dirs=True)
    (tmp_path / "p" / "fit").rename(tmp_path / "p" / "train")
    with pytest.raises(ImportFailed, match=r"split 'val' .*: write 'validation' for 'val'"):
        import_images(tmp_path / "p", tmp_path / "c", size=4, split_dirs=True)
    (tmp_path / "p" / "val").rename(tmp_path / "p" / "validation")
    (tmp_path / "p" / "test" / "c9").mkdir(parents=True)
    with pytest.raises(ImportFailed, match=r"split 'test' has no class of 2 or more images"):
        import_images(tmp_path / "p", tmp_path / "c", size=4, split_dirs=True)
    _folder(tmp_path / "p" / "validation", range(2, 3))
    with pytest.raises(ImportFailed, match=r"'c2' lies in two splits, 'train' and 'validation'.*--split 0.7"):
        import_images(tmp_path / "p", tmp_path / "c", size=4, split_dirs=True)


def test_what_is_no_picture_of_a_class_is_counted_and_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "p")
    for name in ("c0/a.webp", "c0/b.BMP", "c1/extra/1.png", "c1/extra/2.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    for name in ("c0/a.gif", "c0/notes.txt", "c0/._0.png", ".DS_Store", "readme.md"):
        (folder / name).write_bytes(b"x")
    (folder / ".thumbnails").mkdir()
    _, summary, broken = import_images(folder, tmp_path / "s", size=4)
    assert (summary.read, summary.kept, broken) == (32, 32, [])
    assert summary.skipped == {
        "name begins with a dot": [".DS_Store", ".thumbnails", "c0/._0.png"],
        "outside the folder of a class": ["readme.md"],
        "none of .png, .jpg, .jpeg, .webp, .bmp": ["c0/a.gif", "c0/notes.txt"],
        "in a folder inside a class": ["c1/extra/1.png", "c1/extra/2.png"],
    }
    assert "  2 files skipped: in a folder inside a class (c1/extra/1.png, c1/extra/2.png)" in summary.lines()
    assert summary.as_json()["skipped"]["outside the folder of a class"] == {"files": 1, "first": ["readme.md"]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "folder": ({"source": "none"}, "there is no such folder"),
    "levels": ({"source": "."}, r"no class of 2 or more images .*needs --split-dirs"),
    "size": ({"size": 0}, "--size 0: expected"),
    "large size": ({"size": 100_000}, "--size 100000: expected the pixels of a side, 1 to 1024"),
    "two ways": ({"split": "1,0,0", "split_dirs": True}, "give one of --split, --split-file and --split-dirs"),
    "few": ({"split": "0.98,0.01,0.01"}, "2 classes are too few"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    options, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path / "p", range(2))
    with pytest.raises(ImportFailed, match=message):
        import_images(**{"source": "p", "out": "s", "size": 4, **options})


def test_parents_are_split_whole(tmp_path: Path) -> None:
    """Classes of one name under two parents are two classes; a parent is a domain, and never in two splits."""
    for parent in range(5):
        _folder(tmp_path / "p" / f"alphabet{parent}", range(4), pictures=2)
    _, summary, _ = import_images(
        tmp_path / "p", tmp_path / "a", size=4, gray=True, split_by="parent", split="0.6,0.2,0.2"
    )
    assert summary.splits == {"test": 4, "train": 12, "validation": 4}
    store = Store.open(tmp_path / "a")
    owner: dict[str, set[str]] = {}
    for split in store.splits:
        groups = store.groups(split)
        assert [name.partition("/")[0] for name in groups.names] == groups.domains
        for domain in groups.domains:
            owner.setdefault(domain, set()).add(split)
    assert len(owner) == 5 and all(len(splits) == 1 for splits in owner.values())
    (tmp_path / "f.json").write_text(json.dumps({"train": [f"alphabet{n}" for n in range(4)], "test": ["alphabet4"]}))
    _, summary, _ = import_images(
        tmp_path / "p", tmp_path / "b", size=4, split_by="parent", split_file=tmp_path / "f.json"
    )
    assert summary.splits == {"test": 4, "train": 16}
    with pytest.raises(ImportFailed, match="pictures have 'parent'"):
        import_images(tmp_path / "p", tmp_path / "c", size=4, split_by="alphabet")
