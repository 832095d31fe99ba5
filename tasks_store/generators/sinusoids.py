"""Sinusoid regression tasks: amplitude and phase as parameter rows.

Chelsea Finn, Pieter Abbeel, Sergey Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks, ICML 2017, section 5.1: amplitude in [0.1, 5], phase in [0, pi], inputs in [-5, 5], all
uniform. The paper draws tasks for ever; here each split is a finite, frozen list of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from tasks_store.manifest import Manifest
from tasks_store.schema import Column
from tasks_store.writer import write_store

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, float(np.pi))
INPUT = (-5.0, 5.0)
SIZES: Mapping[str, int] = MappingProxyType({"train": 100_000, "validation": 2_000, "test": 2_000})
COLUMNS = (
    Column(name="amplitude", dtype="float32"),
    Column(name="phase", dtype="float32", unit="rad"),
)


def build_sinusoids(out: str | Path, *, seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Manifest:
    """Write the store; one group a split, since a row is a task and the index should stay small.

    Args:
        out: an absent or empty folder, or a URI.
        seed: of the draw; each split has its own stream.
        sizes: tasks of each split.

    Raises:
        StoreExists: there is something already.
    """
    batches = []
    for position, (split, size) in enumerate(sizes.items()):
        rng = np.random.default_rng([seed, position])
        amplitude, phase = rng.uniform(*AMPLITUDE, size), rng.uniform(*PHASE, size)
        batches.append(
            pa.table(
                {
                    "group": pa.array([split] * size, type=pa.string()),
                    "split": pa.array([split] * size, type=pa.string()),
                    "amplitude": pa.array(amplitude.astype(np.float32)),
                    "phase": pa.array(phase.astype(np.float32)),
                }
            )
        )
    return write_store(
        batches,
        out,
        name="sinusoids",
        kind="parameters",
        columns=COLUMNS,
        source=f"generated: amplitude U{list(AMPLITUDE)}, phase U[0, pi], seed {seed}",
        licence="none needed (generated numbers)",
    )
