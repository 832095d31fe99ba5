"""A tiny recipe and the rows of a tiny store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks_store import Column

RECIPE: dict[str, Any] = {
    "tasks": {"path": "./store", "kind": "classes", "ways": 3, "shots": 2, "queries": 3},
    "model": {"name": "mlp", "options": {"hidden": [8], "activation": "tanh"}},
    "objective": {"name": "classification"},
    "algorithm": {"name": "maml", "inner_steps": 1, "inner_lr": 0.5},
    "outer": {"meta_batch_size": 4, "shard_size": 2, "num_steps": 6, "lr": 0.01},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 3, "num_tasks": 8},
    "checkpoint": {"every_steps": 2},
}


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> str:
        """The error line without its prefix; exactly one, and no traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


Call = Callable[..., Answer]


def store_rows(classes: int = 24, examples: int = 8) -> Iterator[dict[str, Any]]:
    draw = np.random.default_rng(3)
    for number in range(classes):
        split = "train" if number % 4 < 2 else "validation" if number % 4 == 2 else "test"
        centre = draw.normal(size=5)
        for _ in range(examples):
            features = (centre + 0.2 * draw.normal(size=5)).astype(np.float32)
            yield {"group": f"class-{number:02d}", "split": split, "features": features}


FEATURES = [Column(name="features", dtype="float32", shape=(5,))]
