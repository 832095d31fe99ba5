"""Sinusoid parameter rows: the published ranges, frozen splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks_store import Store, load_split
from tasks_store.generators.sinusoids import build_sinusoids


def test_ranges_sizes_and_splits(tmp_path: Path) -> None:
    manifest = build_sinusoids(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert store.kind == "parameters"
    assert {name: split.rows for name, split in store.splits.items()} == {
        "train": 100_000,
        "validation": 2_000,
        "test": 2_000,
    }
    assert manifest.index.rows == 3
    train = load_split(store, "train").arrays
    for name, low, high in (("amplitude", 0.1, 5.0), ("phase", 0.0, np.pi)):
        values = train[name]
        assert values.dtype == np.float32
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert abs(float(values.mean()) - (low + high) / 2) < 0.02
    test = load_split(store, "test").arrays
    assert not np.intersect1d(train["amplitude"][:2000], test["amplitude"]).size
    assert len(store.verify()) == 4


def test_same_seed_same_store(tmp_path: Path) -> None:
    sizes = {"train": 50, "test": 10}
    prints = [
        build_sinusoids(tmp_path / f"{n}", seed=seed, sizes=sizes).fingerprint() for n, seed in enumerate((3, 3, 4))
    ]
    assert prints[0] == prints[1] != prints[2]
