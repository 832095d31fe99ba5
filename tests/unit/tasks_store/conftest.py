"""Stores shared by the tests of tasks_store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks_store import Column, Manifest, Store, write_store
from tasks_store.generators.glyphs import build_glyphs
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table
from tests.support.sensors import sensors

GLYPH_CLASSES = 200

SMALL_COLUMNS = (
    Column(name="image", dtype="uint8", shape=(4, 4)),
    Column(name="value", dtype="float32", unit="K"),
    Column(name="vector", dtype="float64", shape=(3,)),
    Column(name="text", dtype="string"),
)


def small_rows() -> list[dict[str, Any]]:
    """Six classes of five rows, shuffled; all values differ."""
    rng = np.random.default_rng(5)
    rows = [
        {
            "group": f"class-{number}",
            "split": ["train", "train", "train", "validation", "test", "test"][number],
            "domain": "even" if number % 2 == 0 else "odd",
            "image": rng.integers(0, 256, (4, 4), dtype=np.uint8),
            "value": 100.0 * number + row,
            "vector": rng.normal(size=3),
            "text": f"row {row} of {number}, \u0436",
        }
        for number in range(6)
        for row in range(5)
    ]
    return [rows[place] for place in rng.permutation(len(rows))]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return small_rows()


@pytest.fixture
def write_small(tmp_path: Path) -> Callable[..., Manifest]:
    """Write the small store to tmp_path / name."""

    def write(place: str = "small", rows: Any = None, **options: Any) -> Manifest:
        settings: dict[str, Any] = {"name": "small", "kind": "classes", "columns": SMALL_COLUMNS, **options}
        return write_store(small_rows() if rows is None else rows, tmp_path / place, **settings)

    return write


@pytest.fixture
def small(write_small: Callable[..., Manifest], tmp_path: Path) -> Path:
    """The folder of the small store."""
    write_small()
    return tmp_path / "small"


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A glyph store of some classes, with the settings of the full one."""
    place = tmp_path_factory.mktemp("glyphs") / "store"
    build_glyphs(place, max_classes=GLYPH_CLASSES)
    return Store.open(place)


@pytest.fixture
def sensor_file(tmp_path: Path) -> Path:
    pq.write_table(sensors(), tmp_path / "sensors.parquet", row_group_size=90)
    return tmp_path / "sensors.parquet"


@pytest.fixture
def import_sensors(sensor_file: Path, tmp_path: Path) -> Callable[..., Any]:
    """``import_sensors("name", label=..., ...)``: an import of the sensors to tmp_path / name."""

    def imported(place: str = "s", **options: Any) -> Any:
        small = options.pop("partition_bytes", 1 << 20)
        return import_table(
            TableRequest(**{"files": (sensor_file,), **options}), tmp_path / place, partition_bytes=small
        )

    return imported
