"""Tasks drawn from a store: N-way episodes of labelled examples, or grouped rows.

Legend: T tasks, S support, Q query examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from metadist.config import TasksConfig
from metadist.errors import DataError
from metadist.parameters import aligned
from metadist.seeding import generator, key
from metadist.sources.drawing import QUARTER_TURNS, Half, grouped, labelled, without_padding
from metadist.sources.fitting import fitted_chain
from metadist.tasks import Batch, Task, TaskSpec
from metadist.transforms import Chain, read_chain
from metadist.transforms.chain import TARGET_KEY
from metadist.transforms.step import Array, tensors_of
from metadist.transforms.targets import Targets, inputs_of, targets_of
from tasks_store import EpisodeSpec, GroupSpec, SplitData, Store, check_spec, large_enough, load_split


class ParquetSource:
    """Episodes of a store. A small object: splits are read when first asked for, and only then.

    Args:
        config: The ``tasks`` section.
        location: The store's folder or URI.
        run_seed: Names the training tasks.
        evaluation_seed: Names the fixed tasks, together with the store and the spec.
        shots: Support examples (a class) of the fixed tasks.
        queries: Query examples (a class) of the fixed tasks.
        fitted: What the transforms learned; by default they are fitted here on the training split, or found fitted.
        support_sizes: Grouped rows: further numbers of support examples that the fixed tasks may be judged with.
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
        support_sizes: Sequence[int] = (),
        fitted: Mapping[str, Array] | None = None,
    ) -> None:
        self.config, self.location = config, location
        self.run_seed, self.evaluation_seed = run_seed, evaluation_seed
        self.fixed_sizes, self.support_sizes = (shots, queries), tuple(support_sizes)
        self._splits: dict[str, SplitData] = {}
        self._fitted = fitted

    def shaped(self, config: TasksConfig) -> ParquetSource:
        """Tasks of another shape from the same data, which is kept once for both."""
        other = ParquetSource(
            config,
            self.location,
            run_seed=self.run_seed,
            evaluation_seed=self.evaluation_seed,
            shots=self.fixed_sizes[0],
            queries=self.fixed_sizes[1],
            support_sizes=self.support_sizes,
        )
        other.store, other.chain, other.targets, other._splits = self.store, self.chain, self.targets, self._splits
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
    def chain(self) -> Chain:
        """The transforms, fitted."""
        if self._fitted is not None:
            return read_chain(self.config.transform, inputs_of(self._fitted))
        return fitted_chain(self.config.transform, self.store, self.columns[0])

    @cached_property
    def targets(self) -> Targets | None:
        """How targets are transformed, fitted; None where they are taken as they are."""
        transforms, target = self.config.target_transform, self.columns[1]
        if not transforms or target is None:
            return None
        if self._fitted is not None:
            chain = read_chain(transforms, targets_of(self._fitted), TARGET_KEY)
        else:
            chain = fitted_chain(transforms, self.store, target, TARGET_KEY)
        return Targets.of(chain, self.store.columns[target].shape)

    @cached_property
    def spec(self) -> TaskSpec:
        return self._spec(self.config.most_shots, self.config.queries)

    @cached_property
    def fixed_spec(self) -> TaskSpec:
        return self._spec(*self.fixed_sizes)

    def _spec(self, shots: int, queries: int) -> TaskSpec:
        kind = self.store.kind
        if kind != self.config.kind:
            raise DataError(f"{self.location} holds tasks of kind {kind}, tasks.kind asks for {self.config.kind}")
        value, target = self.columns
        column = self.store.columns[value]
        shape = self.chain.input_shape(column.dtype, column.shape)
        if self.config.kind == "classes":
            return TaskSpec(
                kind="classes",
                input_shape=shape,
                outputs=self.config.ways,
                shots=shots,
                queries=queries,
                vocabulary=self.chain.vocabulary,
            )
        width = int(np.prod(self.store.columns[target or ""].shape, dtype=np.int64))
        return TaskSpec(
            kind="regression",
            input_shape=shape,
            outputs=width,
            shots=shots,
            queries=queries,
            vocabulary=self.chain.vocabulary,
        )

    def check(self, split: str, *, fixed: bool) -> None:
        """Refuse a split that cannot fill the tasks, before any is drawn."""
        if split not in self.store.splits:
            raise DataError(f"{self.location} has no split {split!r}; it has {', '.join(self.store.splits)}")
        variants = 1 if fixed else self._variants(split)
        spec, data = self._draw_spec(fixed=fixed, variants=variants), self.split(split)
        if isinstance(spec, EpisodeSpec) or not len(large_enough(data.counts, spec)):  # a group that is large will do
            check_spec(data, spec)

    def split(self, name: str) -> SplitData:
        """The decoded split, kept."""
        if name not in self._splits:
            self._splits[name] = load_split(self.store, name)
        return self._splits[name]

    def batch(self, split: str, step: int, start: int, stop: int) -> Task:
        draws = [generator(self.run_seed, split, step, index) for index in range(start, stop)]
        support, query = self._halves(split, draws, self._draw_spec(fixed=False, variants=self._variants(split)))
        if split != "train" or not self.chain.augments:
            return Task(self._batch(support), self._batch(query))
        names = [(self.run_seed, split, step, index, "augment") for index in range(start, stop)]
        noise = [[generator(*name, half) for name in names] for half in ("support", "query")]
        return Task(self._batch(support, noise[0]), self._batch(query, noise[1]))

    def _variants(self, split: str) -> int:
        """Classes that each class counts for in training."""
        return QUARTER_TURNS if self.config.rotations and split == "train" else 1

    def fixed(self, split: str, start: int, stop: int) -> Task:
        support, query = self.raw_fixed(split, start, stop)
        return Task(self._batch(support), self._batch(query))

    def raw_fixed(self, split: str, start: int, stop: int) -> tuple[Half, Half]:
        """Support and query of the fixed tasks ``start..stop-1`` as they are stored."""
        draws = [generator(self._fixed_name(split), index) for index in range(start, stop)]
        return self._halves(split, draws, self._draw_spec(fixed=True))

    def task_set(self, split: str, num_tasks: int) -> str:
        size = (self.fixed_sizes[0],) if self.config.kind == "groups" else ()
        return f"{key(self._fixed_name(split), num_tasks, *size):032x}"

    def left_out(self, split: str, *, fixed: bool) -> tuple[str, ...]:
        """Names of the groups of ``split`` that are too small to draw a task from."""
        spec, data = self._draw_spec(fixed=fixed), self.split(split)
        if isinstance(spec, EpisodeSpec):
            return ()
        kept = set(large_enough(data.counts, spec).tolist())
        return tuple(name for place, name in enumerate(data.names) if place not in kept)

    def _fixed_name(self, split: str) -> str:
        """Names the generator of the fixed tasks. Of grouped rows the size of the support set is no part of it: each
        size is judged on the same groups and queries."""
        config, (shots, queries) = self.config, self.fixed_sizes
        sizes: tuple[Any, ...] = (shots, queries)
        if config.kind == "groups":
            sizes = (self._set_aside, queries, config.order.cut, config.order.gap)
        within = () if config.within is None else (config.within,)
        what = (config.kind, config.ways, *sizes, config.order.by, *within, *self.columns)
        return f"{self.fingerprint}:{split}:{what}:{self.evaluation_seed}"

    @property
    def _set_aside(self) -> int:
        """Rows of a group that its support set is taken from in evaluation, whatever the size."""
        return max(self.config.most_shots, self.fixed_sizes[0], *self.support_sizes)

    def _draw_spec(self, *, fixed: bool, variants: int = 1) -> EpisodeSpec | GroupSpec:
        config = self.config
        shots, queries = self.fixed_sizes if fixed else (config.most_shots, config.queries)
        if config.kind != "groups":
            one_domain = config.within == "domain"
            return EpisodeSpec(ways=config.ways, shots=shots, queries=queries, variants=variants, one_domain=one_domain)
        sizes = (shots, shots) if fixed else config.support
        return GroupSpec(
            support=self._set_aside if fixed else shots,
            queries=queries,
            order=config.order.by,
            cut=config.order.cut,
            gap=config.order.gap,
            sizes=sizes,
        )

    def _halves(self, split: str, draws: list[np.random.Generator], spec: EpisodeSpec | GroupSpec) -> tuple[Half, Half]:
        data, (value, target) = self.split(split), self.columns
        if isinstance(spec, EpisodeSpec):
            return labelled(data, value, spec, draws)
        return grouped(data, value, target or "", spec, draws)

    def _batch(self, half: Half, noise: Sequence[np.random.Generator] | None = None) -> Batch:
        x = self.chain(half.x, noise)
        y = half.y if self.targets is None else self.targets.scaled(half.y)
        if half.weight is None:
            return Batch(tensors_of(x), aligned(y))
        if self.targets is not None:
            y = without_padding(y, half.weight)
        leaves = x if isinstance(x, dict) else {"": x}
        kept = {name: without_padding(leaf, half.weight) for name, leaf in leaves.items()}
        return Batch(tensors_of(kept if isinstance(x, dict) else kept[""]), aligned(y), aligned(half.weight))
