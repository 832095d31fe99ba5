"""Small runs of each kind that can be bundled: images told apart in seconds, and sinusoids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import metadist
from metadist import Run
from tasks_store import Column, write_store
from tests.support.quick import SMALL_RUN

CLASSES = {"train": 8, "validation": 5, "test": 5}
NUM_TASKS = 24

IMAGE_TOY: dict[str, Any] = {
    "tasks": {"ways": 3, "shots": 2, "queries": 3, "transform": [{"name": "pixels"}]},
    "model": {"name": "conv4", "options": {"filters": 4}},
    "objective": {"name": "classification"},
    "algorithm": {"name": "maml", "inner_steps": 2, "inner_lr": 0.3, "normalisation": "inductive"},
    "outer": {"meta_batch_size": 4, "lr": 0.01, "num_steps": 4},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 4, "num_tasks": NUM_TASKS, "validation_tasks": 8},
    "checkpoint": {"every_steps": 2},
}

SINUSOID_TOY: dict[str, Any] = {
    **SMALL_RUN,
    "evaluation": {"every_steps": 10, "num_tasks": NUM_TASKS, "queries": 7, "inner_steps": 3},
}


def toy_store(place: Path) -> Path:
    """Noisy copies of one 12x12 picture a class."""

    def rows() -> Iterator[dict[str, Any]]:
        draw = np.random.default_rng(0)
        for split, count in CLASSES.items():
            for number in range(count):
                picture = draw.integers(0, 256, (12, 12))
                for _ in range(8):
                    noisy = picture + draw.integers(-60, 60, (12, 12))
                    yield {
                        "group": f"{split}-{number}",
                        "split": split,
                        "image": np.clip(noisy, 0, 255).astype(np.uint8),
                    }

    write_store(
        rows(), place, name="toy", kind="classes", columns=[Column(name="image", dtype="uint8", shape=(12, 12))]
    )
    return place


def image_run(folder: Path, set: Mapping[str, Any] | None = None) -> Run:
    """Train `IMAGE_TOY` in ``folder/run`` on a store in ``folder/store``."""
    store = folder / "store"
    if not store.exists():
        toy_store(store)
    return metadist.train(IMAGE_TOY, set={"tasks.path": str(store), **(set or {})}, run_dir=folder / "run")


def sinusoid_run(folder: Path) -> Run:
    """Train `SINUSOID_TOY` in ``folder/run``."""
    return metadist.train(SINUSOID_TOY, run_dir=folder / "run")
