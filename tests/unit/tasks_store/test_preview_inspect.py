"""Contact sheets and descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks_store import Column, EpisodeSpec, NotEnoughExamples, SchemaMismatch, Store, load_split, write_store
from tasks_store.inspect import describe
from tasks_store.preview import contact_sheet


def test_contact_sheet(glyphs: Store, tmp_path: Path) -> None:
    split = load_split(glyphs, "test")
    spec = EpisodeSpec(ways=3, shots=2, queries=4)
    path = contact_sheet(split, tmp_path / "sheet.png", spec=spec, episodes=2, scale=1)
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * (3 * 30 + 8), 6 * 30 + 4)
    assert pixels[:28, :28].min() < 64, "ink is dark"
    assert (pixels[:28, 60] == 128).all(), "a line between support and queries"
    again = contact_sheet(split, tmp_path / "again.png", spec=spec, episodes=2, scale=1)
    assert again.read_bytes() == path.read_bytes()


def test_contact_sheet_of_few_rows_and_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"group": f"g{n % 2}", "split": "train", "image": rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)}
        for n in range(6)
    ]
    write_store(
        rows,
        tmp_path / "s",
        name="s",
        kind="classes",
        columns=[Column(name="image", dtype="uint8", shape=(5, 6, 3))],
    )
    split = load_split(Store.open(tmp_path / "s"), "train")
    contact_sheet(split, tmp_path / "sheet.png")
    with pytest.raises(NotEnoughExamples):
        contact_sheet(split, tmp_path / "sheet.png", spec=EpisodeSpec(ways=5, shots=1, queries=1))


def test_refuses_what_is_no_picture(small: Path, tmp_path: Path) -> None:
    split = load_split(Store.open(small), "train")
    with pytest.raises(SchemaMismatch, match="'vector' is float64"):
        contact_sheet(split, tmp_path / "x.png", column="vector")
    with pytest.raises(SchemaMismatch, match="shows labelled images"):
        contact_sheet(split, tmp_path / "x.png", column="pixels")


def test_describe(small: Path) -> None:
    found: dict[str, Any] = json.loads(json.dumps(describe(Store.open(small))))
    assert found["fingerprint"] == Store.open(small).fingerprint
    assert (found["kind"], found["groups"], found["rows"]) == ("classes", 6, 30)
    assert found["splits"]["train"] == {
        "groups": 3,
        "rows": 15,
        "domains": 2,
        "group_rows": {"min": 5, "median": 5.0, "max": 5},
    }
    assert found["columns"][0] == {"name": "image", "dtype": "uint8", "shape": [4, 4], "unit": ""}
    assert found["bytes"] == sum(path.stat().st_size for path in small.glob("*.parquet"))
