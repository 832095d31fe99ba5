"""Tasks drawn from a store: N-way episodes of labelled examples, or grouped rows.

Legend: T tasks, S support, Q query examples.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.config import TasksConfig
from metadist.errors import DataError
from metadist.parameters import aligned
from metadist.seeding import generator, key
from metadist.tasks import Batch, Task, TaskSpec
from metadist.transforms import apply_transforms, transformed_shape
from tasks_store import (
    EpisodeSpec,
    GroupSpec,
    SplitData,
    Store,
    check_spec,
    draw_episode,
    draw_group,
    load_split,
)

QUARTER_TURNS = 4


class ParquetSource:
    """Episodes of a store. A small object: splits are read when first asked for, and only then.

    Args:
        config: The ``tasks`` section.
        location: The store's folder or URI.
        run_seed: Names the training tasks.
        evaluation_seed: Names the fixed tasks, together with the store and the spec.
        shots: Support examples (a class) of the fixed tasks.
        queries: Query examples (a class) of the fixed tasks.
    """

    def __init__(
        self,
        config: TasksConfig,
        location: str,
        *,
        run_seed: int,
        evaluation_seed: int,
        shots: int,
        queries: int,
    ) -> None:
        self.config, self.location = config, location
        self.run_seed, self.evaluation_seed = run_seed, evaluation_seed
        self.fixed_sizes = (shots, queries)
        self._splits: dict[str, SplitData] = {}

    def shaped(self, config: TasksConfig) -> ParquetSource:
        """Tasks of another shape from the same data, which is kept once for both."""
        other = ParquetSource(
            config,
            self.location,
            run_seed=self.run_seed,
            evaluation_seed=self.evaluation_seed,
            shots=self.fixed_sizes[0],
            queries=self.fixed_sizes[1],
        )
        other.store, other._splits = self.store, self._splits
        return other

    @cached_property
    def store(self) -> Store:
        return Store.open(self.location)

    @cached_property
    def fingerprint(self) -> str:
        return self.store.fingerprint

    @cached_property
    def columns(self) -> tuple[str, str | None]:
        """Names of the input column and of the target column."""
        names = list(self.store.columns)
        target = self.config.target
        for given, option in ((self.config.value, "value"), (target, "target")):
            if given is not None and given not in names:
                raise DataError(
                    f"tasks.{option} {given!r} is not a column of {self.location}; it has {', '.join(names)}"
                )
        inputs = [name for name in names if name != target]
        if self.config.value is None and len(inputs) != 1:
            raise DataError(f"{self.location} has the columns {', '.join(inputs)}; name one as tasks.value")
        return self.config.value or inputs[0], target

    @cached_property
    def spec(self) -> TaskSpec:
        return self._spec(self.config.shots, self.config.queries)

    @cached_property
    def fixed_spec(self) -> TaskSpec:
        return self._spec(*self.fixed_sizes)

    def _spec(self, shots: int, queries: int) -> TaskSpec:
        kind = self.store.kind
        if kind != self.config.kind:
            raise DataError(f"{self.location} holds tasks of kind {kind}, tasks.kind asks for {self.config.kind}")
        value, target = self.columns
        shape = transformed_shape(self.config.transform, self.store.columns[value].shape)
        if self.config.kind == "classes":
            return TaskSpec(kind="classes", input_shape=shape, outputs=self.config.ways, shots=shots, queries=queries)
        width = int(np.prod(self.store.columns[target or ""].shape, dtype=np.int64))
        return TaskSpec(kind="regression", input_shape=shape, outputs=width, shots=shots, queries=queries)

    def check(self, split: str, *, fixed: bool) -> None:
        """Refuse a split that cannot fill the tasks, before any is drawn."""
        if split not in self.store.splits:
            raise DataError(f"{self.location} has no split {split!r}; it has {', '.join(self.store.splits)}")
        if self.config.kind == "classes":
            shots, queries = self.fixed_sizes if fixed else (self.config.shots, self.config.queries)
            check_spec(self.split(split), self._episode(shots, queries, 1))

    def split(self, name: str) -> SplitData:
        """The decoded split, kept."""
        if name not in self._splits:
            self._splits[name] = load_split(self.store, name)
        return self._splits[name]

    def batch(self, split: str, step: int, start: int, stop: int) -> Task:
        variants = QUARTER_TURNS if self.config.rotations and split == "train" else 1
        sizes = (self.config.shots, self.config.queries)
        draws = [generator(self.run_seed, split, step, index) for index in range(start, stop)]
        return self._load(split, draws, *sizes, variants)

    def fixed(self, split: str, start: int, stop: int) -> Task:
        draws = [generator(self._fixed_name(split), index) for index in range(start, stop)]
        return self._load(split, draws, *self.fixed_sizes, 1)

    def task_set(self, split: str, num_tasks: int) -> str:
        return f"{key(self._fixed_name(split), num_tasks):032x}"

    def _fixed_name(self, split: str) -> str:
        what = (self.config.kind, self.config.ways, *self.fixed_sizes, self.config.order, *self.columns)
        return f"{self.fingerprint}:{split}:{what}:{self.evaluation_seed}"

    def _episode(self, shots: int, queries: int, variants: int) -> EpisodeSpec:
        return EpisodeSpec(ways=self.config.ways, shots=shots, queries=queries, variants=variants)

    def _load(self, split: str, draws: list[np.random.Generator], shots: int, queries: int, variants: int) -> Task:
        data = self.split(split)
        if self.config.kind == "groups":
            return self._load_groups(data, draws, shots, queries)
        counts = np.diff(data.offsets)
        spec = self._episode(shots, queries, variants)
        episodes = [draw_episode(counts, data.offsets, spec, draw) for draw in draws]
        turns = np.stack([episode.variants for episode in episodes])  # (T, ways)
        halves = []
        for rows, labels, a_class in (
            ("support_rows", "support_labels", shots),
            ("query_rows", "query_labels", queries),
        ):
            picked = data.arrays[self.columns[0]][np.stack([getattr(episode, rows) for episode in episodes])]
            if variants > 1:
                picked = _turned(picked, np.repeat(turns, a_class, axis=1))
            y = np.stack([getattr(episode, labels) for episode in episodes])
            halves.append(Batch(self._inputs(picked), aligned(y)))
        return Task(support=halves[0], query=halves[1])

    def _load_groups(self, data: SplitData, draws: list[np.random.Generator], shots: int, queries: int) -> Task:
        spec = GroupSpec(support=shots, queries=queries, order=self.config.order)
        groups = [draw_group(data.offsets, np.diff(data.offsets), spec, draw) for draw in draws]
        value, target = self.columns

        def half(rows: NDArray[np.int64]) -> Batch:
            y = data.arrays[target or ""][rows].astype(np.float32)
            return Batch(self._inputs(data.arrays[value][rows]), aligned(y.reshape(*rows.shape, -1)))

        return Task(
            support=half(np.stack([group.support_rows for group in groups])),
            query=half(np.stack([group.query_rows for group in groups])),
        )

    def _inputs(self, values: NDArray[np.generic]) -> Tensor:
        return aligned(apply_transforms(self.config.transform, values), torch.float32)


def _turned(images: NDArray[np.generic], turns: NDArray[np.int64]) -> NDArray[np.generic]:
    """Turn images (T, N, H, W, ...) by ``turns`` (T, N) quarters."""
    turned = np.empty_like(images)
    for quarter in range(QUARTER_TURNS):
        where = turns == quarter
        turned[where] = np.rot90(images[where], quarter, axes=(1, 2))
    return turned
