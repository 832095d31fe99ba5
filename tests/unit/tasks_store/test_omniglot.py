"""Omniglot from its published forms; the splits are the published ones."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks_store import ImportFailed, SchemaMismatch, Store, load_split
from tasks_store.importers.omniglot import import_omniglot, split_of_characters
from tasks_store.importers.omniglot_images import shrink

SHARED = Path(__file__).parents[4] / "shared" / "data" / "omniglot"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared Omniglot table is not here")
DRAWINGS = [
    ("images_background", "Arcadian", 1, 1, 1),
    ("images_background", "Arcadian", 1, 1, 2),
    ("images_background", "Armenian", 2, 28, 1),
    ("images_evaluation", "ULOG", 26, 1623, 20),
]


def _picture(seed: int) -> Any:
    """105 x 105, ink black, one bit: as published."""
    ink = np.zeros((105, 105), dtype=bool)
    row, column = np.random.default_rng(seed).integers(5, 80, size=2)
    ink[row : row + 15, column : column + 4] = True
    return ink


def _png(ink: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(sink, format="PNG")
    return sink.getvalue()


def _files() -> dict[str, bytes]:
    return {
        f"{part}/{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png": _png(_picture(number + drawer))
        for part, alphabet, character, number, drawer in DRAWINGS
    }


@pytest.fixture(params=["folders", "zips"])
def official(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "official"
    place.mkdir()
    for name, data in _files().items():
        if request.param == "folders":
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        else:
            with zipfile.ZipFile(place / f"{name.split('/')[0]}.zip", "a") as archive:
                archive.writestr(name, data)
    return place


def test_official_pictures(official: Path, tmp_path: Path) -> None:
    import_omniglot(official, tmp_path / "o", allow_partial=True)
    store = Store.open(tmp_path / "o")
    assert store.groups("train").names == ["Arcadian/character01"]
    assert store.groups("validation").names == ["Armenian/character02"]
    assert store.groups("test").names == ["ULOG/character26"]
    assert store.groups("test").domains == ["ULOG"]
    images = load_split(store, "train").arrays["image"]
    assert images.shape == (2, 28, 28)
    for image, seed in zip(images, (2, 3), strict=True):
        ink = _picture(seed)
        assert abs(image.mean() - 255 * ink.mean()) < 0.5, "the ink is kept"
        rows, columns = np.nonzero(ink)
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert rows.min() / 3.75 - 1 <= row <= rows.max() / 3.75 + 1, "where it was"
        assert columns.min() / 3.75 - 1 <= column <= columns.max() / 3.75 + 1


def test_background_evaluation(official: Path, tmp_path: Path) -> None:
    import_omniglot(official, tmp_path / "o", "background-evaluation", allow_partial=True)
    store = Store.open(tmp_path / "o")
    assert store.groups("test").names == ["ULOG/character26"]
    assert sum(split.groups for split in store.splits.values()) == 3


def test_a_part_is_refused(official: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"character 1 has 2 drawings, expected 20 \(1623 of 1623"):
        import_omniglot(official, tmp_path / "o")


def test_what_is_not_omniglot(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="does not exist"):
        import_omniglot(tmp_path / "nowhere", tmp_path / "o")
    with pytest.raises(ImportFailed, match="holds none of images_background, images_evaluation"):
        import_omniglot(tmp_path, tmp_path / "o")
    with pytest.raises(ImportFailed, match="split 'random' is none of vinyals, background-evaluation"):
        import_omniglot(tmp_path, tmp_path / "o", "random")  # type: ignore[arg-type]
    (tmp_path / "images_background.zip").write_bytes(b"PK not a zip")
    with pytest.raises(ImportFailed, match="not a whole zip file"):
        import_omniglot(tmp_path, tmp_path / "o")
    table = pa.table({"alphabet": ["A"], "character": [1], "char_id": [5000], "image": [b"0" * 784]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ImportFailed, match=r"character id 5000 is not in 1\.\.1623"):
        import_omniglot(tmp_path, tmp_path / "o")
    pq.write_table(table.drop_columns(["image"]), tmp_path / "x.parquet")
    with pytest.raises(ImportFailed, match="has no column image"):
        import_omniglot(tmp_path / "x.parquet", tmp_path / "o")
    pq.write_table(
        table.set_column(2, "char_id", pa.array([5])).set_column(3, "image", pa.array([b"0"])), tmp_path / "x.parquet"
    )
    with pytest.raises(SchemaMismatch, match="'image'"):
        import_omniglot(tmp_path / "x.parquet", tmp_path / "o", allow_partial=True)
    bad = tmp_path / "bad" / "images_background" / "A" / "character01"
    bad.mkdir(parents=True)
    (bad / "0001_01.png").write_bytes(b"no picture")
    with pytest.raises(ImportFailed, match=r"0001_01\.png is not a readable picture"):
        import_omniglot(tmp_path / "bad", tmp_path / "o")


@pytest.mark.parametrize(
    ("split", "sizes"),
    [("vinyals", (1028, 172, 423)), ("background-evaluation", (820, 144, 659))],
)
def test_split_sizes(split: Any, sizes: tuple[int, ...]) -> None:
    owners = list(split_of_characters(split).values())
    assert tuple(owners.count(name) for name in ("train", "validation", "test")) == sizes


def test_the_fixed_choice_does_not_move() -> None:
    owners = split_of_characters("background-evaluation")
    chosen = [number for number, split in owners.items() if split == "validation"]
    assert hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16] == "e0b0d7a7c0607d2b"


def test_shrink_is_the_area_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (56, 56), dtype=np.uint8)
    mean = image.reshape(28, 2, 28, 2).mean(axis=(1, 3))
    assert abs(shrink(image).astype(float) - mean).max() <= 0.5
    assert (shrink(np.full((105, 105), 255, dtype=np.uint8)) == 255).all()


@needs_data
def test_the_shipped_split_is_the_published_one() -> None:
    published = json.loads((SHARED / "omniglot_vinyals_split.json").read_text())
    owners = split_of_characters("vinyals")
    theirs = json.dumps([sorted(published[name]) for name in ("train", "val", "test")]).encode()
    ours = json.dumps(
        [sorted(n for n, split in owners.items() if split == name) for name in ("train", "validation", "test")]
    ).encode()
    assert hashlib.sha256(ours).hexdigest() == hashlib.sha256(theirs).hexdigest()


@needs_data
def test_the_whole_table(tmp_path: Path) -> None:
    import_omniglot(SHARED, tmp_path / "o")
    store = Store.open(tmp_path / "o")
    assert {name: (split.groups, split.rows) for name, split in store.splits.items()} == {
        "train": (1028, 20560),
        "validation": (172, 3440),
        "test": (423, 8460),
    }
    assert len(store.verify()) == 4
    table = pq.read_table(SHARED / "omniglot_28.parquet")
    row = 20 * 1399 + 7
    alphabet, character = table.column("alphabet")[row].as_py(), table.column("character")[row].as_py()
    group = store.groups("test").names.index(f"{alphabet}/character{character:02d}")
    assert store.read_group("test", group)["image"][7].tobytes() == table.column("image")[row].as_py()
