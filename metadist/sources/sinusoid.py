"""The sinusoid tasks of Finn et al. 2017, section 5.1: y = amplitude * sin(x - phase), x uniform in [-5, 5].

A task's parameter row (amplitude, phase) comes from a store of parameter rows, or is drawn uniformly where no
store is named; its examples are drawn afresh for every task.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from metadist.errors import DataError
from metadist.parameters import aligned
from metadist.seeding import generator, key
from metadist.tasks import Batch, Task, TaskSpec
from tasks_store import SplitData, Store, draw_rows, load_split

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, float(np.pi))
REACH = 5.0


class SinusoidSource:
    """Sinusoid tasks; see `metadist.tasks.TaskSource`.

    Args:
        location: Store of parameter rows, or None to draw amplitude and phase uniformly.
        run_seed: Names the training tasks.
        evaluation_seed: Names the fixed tasks.
        sizes: Support and query examples in training.
        fixed_sizes: Support and query examples of the fixed tasks.
    """

    def __init__(
        self,
        location: str | None,
        *,
        run_seed: int,
        evaluation_seed: int,
        sizes: tuple[int, int],
        fixed_sizes: tuple[int, int],
    ) -> None:
        self.location, self.run_seed, self.evaluation_seed = location, run_seed, evaluation_seed
        self.sizes, self.fixed_sizes = sizes, fixed_sizes
        self._splits: dict[str, SplitData] = {}

    @cached_property
    def store(self) -> Store | None:
        return None if self.location is None else Store.open(self.location)

    @cached_property
    def fingerprint(self) -> str:
        return "uniform sinusoids" if self.store is None else self.store.fingerprint

    @cached_property
    def spec(self) -> TaskSpec:
        return _spec(self.sizes)

    @cached_property
    def fixed_spec(self) -> TaskSpec:
        return _spec(self.fixed_sizes)

    def check(self, split: str, *, fixed: bool) -> None:
        """Refuse a store that holds no amplitudes and phases for ``split``."""
        if self.store is None:
            return
        if split not in self.store.splits:
            raise DataError(f"{self.location} has no split {split!r}; it has {', '.join(self.store.splits)}")
        missing = {"amplitude", "phase"} - set(self.store.columns)
        if missing:
            raise DataError(f"{self.location} has no column {' or '.join(sorted(missing))}; sinusoids need both")

    def batch(self, split: str, step: int, start: int, stop: int) -> Task:
        return self._load(split, generator(self.run_seed, split, step), start, stop, self.sizes)

    def fixed(self, split: str, start: int, stop: int) -> Task:
        return self._load(split, generator(self._fixed_name(split)), start, stop, self.fixed_sizes)

    def task_set(self, split: str, num_tasks: int) -> str:
        return f"{key(self._fixed_name(split), num_tasks):032x}"

    def _fixed_name(self, split: str) -> str:
        return f"{self.fingerprint}:{split}:{self.fixed_sizes}:{self.evaluation_seed}"

    def _load(self, split: str, draw: np.random.Generator, start: int, stop: int, sizes: tuple[int, int]) -> Task:
        # Task i owns row i of this table whatever the shard: a generator fills tables row by row.
        shots, queries = sizes
        uniform = draw.random((stop, 2 + shots + queries))[start:]
        amplitude, phase = self._rows(split, uniform[:, :2])
        x = (2 * uniform[:, 2:] - 1) * REACH
        y = amplitude[:, None] * np.sin(x - phase[:, None])
        return Task(
            support=Batch(_column(x[:, :shots]), _column(y[:, :shots])),
            query=Batch(_column(x[:, shots:]), _column(y[:, shots:])),
            row={
                "amplitude": aligned(amplitude.astype(np.float32)),
                "phase": aligned(phase.astype(np.float32)),
            },
        )

    def _rows(self, split: str, uniform: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.store is None:
            low, high = np.array([AMPLITUDE, PHASE]).T
            values = low + uniform * (high - low)
            return values[:, 0], values[:, 1]
        if split not in self._splits:
            self._splits[split] = load_split(self.store, split)
        arrays = self._splits[split].arrays
        rows = draw_rows(len(arrays["phase"]), uniform[:, 0])
        return arrays["amplitude"][rows].astype(np.float64), arrays["phase"][rows].astype(np.float64)


def _spec(sizes: tuple[int, int]) -> TaskSpec:
    return TaskSpec(kind="regression", input_shape=(1,), outputs=1, shots=sizes[0], queries=sizes[1])


def _column(values: NDArray[np.float64]) -> torch.Tensor:
    return aligned(values.astype(np.float32)[..., None])
