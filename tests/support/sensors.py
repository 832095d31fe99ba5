"""A table as people have it, and two imports of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

GROUPS, ROWS = 20, 400


def sensors() -> Any:
    """400 hours of 20 sensors in 5 towns, shuffled; gaps in every tenth ``wet`` and three targets (one row: both)."""
    rng = np.random.default_rng(7)
    sensor = rng.integers(0, GROUPS, ROWS)
    wet = rng.normal(5.0, 2.0, ROWS)
    wet[::10] = np.nan
    heat = [None if row in (3, 50, 51) else float(value) for row, value in enumerate(rng.normal(size=ROWS))]
    return pa.table(
        {
            "town": pa.array([f"town{number % 5}" for number in sensor]).dictionary_encode(),
            "sensor": pa.array(sensor),
            "hour": pa.array(rng.permutation(ROWS)),
            "wet": pa.array(wet),
            "wind": pa.array(rng.integers(0, 30, ROWS).astype(np.int16)),
            "note": [f"note {row}" for row in range(ROWS)],
            "part": [("train", "validation", "test")[number % 3] for number in sensor],
            "hue": pa.array([[row % 251, 1, 2] for row in range(ROWS)], pa.list_(pa.uint8(), 3)),
            "ink": pa.array([bytes([row % 251, 1, 2, 3]) for row in range(ROWS)], pa.binary()),
            "heat": pa.array(heat),
        }
    )


CLASSES: dict[str, Any] = {"label": "sensor", "value": ("note",), "split": "0.7,0.1,0.2"}
REGRESSION: dict[str, Any] = {
    "target": "heat",
    "group": ("town", "sensor"),
    "value": ("w*",),
    "order_by": ("hour",),
    "split_by": "town",
    "split": "0.6,0.2,0.2",
}
