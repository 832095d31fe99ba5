"""Linear customers: tasks whose best possible answer is known.

A customer's answers are ``y = w x + b + noise``, with (w, b) drawn from one normal distribution over all customers.
What can be known of a customer from K rows is then the posterior mean of Bayesian linear regression (Bishop, "Pattern
Recognition and Machine Learning", 2006, section 3.3): no method has a smaller expected squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks_store.manifest import Manifest
from tasks_store.schema import Column
from tasks_store.writer import write_store

NAME = "customers"
GENERATED = "generated: linear customers"  # how the source of such a store begins
INPUTS, ROWS, NOISE = 4, 60, 0.5
SIZES: Mapping[str, int] = MappingProxyType({"train": 2_000, "validation": 300, "test": 1_000})
COLUMNS = (Column(name="x", dtype="float32", shape=(INPUTS,)), Column(name="y", dtype="float32"))
POPULATION_SEED = 5


@dataclass(frozen=True, slots=True)
class Population:
    """What customers have in common: mean (INPUTS + 1,) and covariance of (w, b)."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def population() -> Population:
    """The one population of the generator; its customers differ more in some directions than in others."""
    rng = np.random.default_rng(POPULATION_SEED)
    spread = rng.normal(size=(INPUTS + 1, INPUTS + 1)) * np.geomspace(1.5, 0.2, INPUTS + 1)
    return Population(rng.normal(size=INPUTS + 1), spread @ spread.T)


def bayes_optimum(x: NDArray[np.float32], y: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """The best prediction (Q, 1) for ``queries`` (Q, INPUTS), given K >= 0 rows x (K, INPUTS) and y (K, 1)."""
    known = population()
    features = _with_one(x)
    gain = np.linalg.solve(
        features @ known.covariance @ features.T + NOISE**2 * np.eye(len(x)), features @ known.covariance
    )
    weights = known.mean + gain.T @ (y[:, 0] - features @ known.mean)
    return np.asarray(_with_one(queries) @ weights)[:, None]


def build_customers(out: str | Path, *, seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Manifest:
    """Write the store; a group is a customer.

    Args:
        out: an absent or empty folder, or a URI.
        seed: of the draw; each split has its own stream.
        sizes: customers of each split.

    Raises:
        StoreExists: there is something already.
    """
    known, batches = population(), []
    for position, (split, size) in enumerate(sizes.items()):
        rng = np.random.default_rng([seed, position])
        weights = rng.multivariate_normal(known.mean, known.covariance, size)
        x = rng.normal(size=(size, ROWS, INPUTS)).astype(np.float32)
        y = np.einsum("crf,cf->cr", _with_one(x), weights) + NOISE * rng.normal(size=(size, ROWS))
        flat = pa.array(x.reshape(-1))
        batches.append(
            pa.table(
                {
                    "group": pa.array([f"{split}-{customer:06d}" for customer in range(size) for _ in range(ROWS)]),
                    "split": pa.array([split] * size * ROWS),
                    "x": pa.FixedSizeListArray.from_arrays(flat, INPUTS),
                    "y": pa.array(y.astype(np.float32).reshape(-1)),
                }
            )
        )
    return write_store(
        batches,
        out,
        name=NAME,
        kind="groups",
        columns=COLUMNS,
        source=f"{GENERATED}, noise {NOISE}, seed {seed}",
        licence="none needed (generated numbers)",
    )


def _with_one(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)
