"""The pieces for an outer loop of one's own: tasks by step, and the very meta-gradient that workers compute.

```python
config = metadist.load_config("omniglot-5w1s-inductive", {"outer.num_steps": 50})
tasks = metadist.open_tasks(config)
algorithm = metadist.parts_of(config, tasks).algorithm
params = algorithm.init(config.seed)
optimizer = torch.optim.Adam(metadist.leaves(params), lr=config.outer.lr, foreach=False)
for step in range(50):
    direction, metrics = metadist.meta_gradient(algorithm, params, tasks.batch(step, 32))
    for leaf, slope in zip(metadist.leaves(params), metadist.leaves(direction)):
        leaf.grad = slope
    optimizer.step()
print(metadist.params_sha256(params))
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster import OrderedFold
from metadist import numerics
from metadist.algorithms import MetaAlgorithm
from metadist.config import RunConfig, TasksConfig, Transform
from metadist.config.resolve import default_shard_size
from metadist.parameters import MetaParams, layout_of, unflatten
from metadist.shard import batched, context_of, part_of
from metadist.sources import build_source
from metadist.sources.parquet import ParquetSource
from metadist.stores import locate
from metadist.sums import Sums
from metadist.tasks import Context, Task, TaskSource, TaskSpec
from metadist.trainer import reduced
from metadist.worker import Assembly, assemble
from tasks_store import Store, resolve_store


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks of one split, by outer step; of a run where they were opened by its configuration."""

    source: TaskSource
    split: str
    config: RunConfig | None = None

    @property
    def spec(self) -> TaskSpec:
        """Shapes of one task."""
        return self.source.spec

    def batch(self, step: int, size: int) -> Task:
        """The ``size`` tasks of ``step``; every leaf has a leading axis of that length.

        Raises:
            ValueError: the configuration has tasks of several shapes, which are no one tensor.
        """
        if self.config is not None and self.config.tasks.shapes:
            raise ValueError("tasks of several shapes (tasks.shapes) are no one batch: open the tasks of each alone")
        return self.source.batch(self.split, step, 0, size)

    def context(self, step: int, size: int) -> Context:
        """Schedule and randomness of these tasks as in the run, for algorithms that have either (mini-batches,
        dropout, multi-step losses).

        Raises:
            ValueError: the tasks were opened without a run's configuration.
        """
        if self.config is None:
            raise ValueError("the context of a step follows from a run's configuration: use open_tasks(config)")
        return context_of(self.config, self.split, step, 0, size)

    def fixed(self, size: int) -> Task:
        """The first ``size`` evaluation tasks."""
        return self.source.fixed(self.split, 0, size)


def open_tasks(
    where: str | Path | RunConfig,
    *,
    split: str = "train",
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotations: bool = False,
    seed: int = 0,
) -> Tasks:
    """Tasks of a store (a path, a URI or a name), or exactly those of a run's configuration.

    A store's uint8 images (H, W) or (H, W, C) become float32 (C, H, W) in 0..1.

    Raises:
        tasks_store.TaskStoreError: the store is missing or not whole.
    """
    numerics.pin()
    if isinstance(where, RunConfig):
        return Tasks(build_source(where, locate(where, lambda message: None)), split, where)
    location = str(resolve_store(str(where)))
    values = [column for column in Store.open(location).columns.values() if column.dtype == "uint8"]
    config = TasksConfig(
        path=location,
        ways=ways,
        shots=shots,
        queries=queries,
        rotations=rotations,
        transform=(Transform(name="pixels"),) if values else (),
    )
    source = ParquetSource(config, location, run_seed=seed, evaluation_seed=seed, shots=shots, queries=queries)
    return Tasks(source, split)


def parts_of(config: RunConfig, tasks: Tasks) -> Assembly:
    """Model, objective and algorithm of ``config`` for these tasks."""
    return assemble(config, tasks.source)


def meta_gradient(
    algorithm: MetaAlgorithm,
    params: MetaParams,
    tasks: Task,
    *,
    context: Context | None = None,
    shard_size: int | None = None,
    reduction: str = "mean",
) -> tuple[MetaParams, dict[str, float]]:
    """The reduced direction over a batch of tasks (every leaf with a leading task axis), and mean metrics.

    The bits are those of ``metadist train`` with the same ``shard_size`` (its default is the same, too), since
    the same functions cut, sum and divide. Where the algorithm draws or has a schedule (mini-batches, dropout,
    multi-step losses), give ``context=tasks.context(step, size)``, too; without one, progress is zero and the noise
    follows from a task's place in the batch.

    Example:
        See the loop at the top of this module.
    """
    layout = layout_of(params)
    aligned_params = MetaParams(*({name: leaf.detach() for name, leaf in tree.items()} for tree in params))
    count = _length(tasks)
    size = shard_size or default_shard_size(count)
    if count % size:
        raise ValueError(f"{count} tasks are not a multiple of shard_size {size}")
    fold = OrderedFold(version=0, num_items=count // size)
    gradient = batched(algorithm.meta_gradient)
    whole = context or Context(torch.zeros(()), torch.arange(count))
    for index, start in enumerate(range(0, count, size)):
        piece = part_of(tasks, start, start + size)
        ctx = Context(whole.progress, whole.noise_key[start : start + size].clone())
        sums = Sums(layout, "cpu")
        sums.add(*gradient(aligned_params, piece, ctx), keys=tuple(f"task {i}" for i in range(start, start + size)))
        fold.add(0, index, sums.partial())
    folded = fold.result()
    flat = reduced(folded, reduction)
    metrics = {name: total / number for name, (total, number) in folded.metrics.items() if number}
    return unflatten(np.ascontiguousarray(flat), layout), metrics


def _length(tasks: Task) -> int:
    half: Any = tasks.query if tasks.query is not None else tasks.support
    if half is None:
        raise ValueError("a task needs a support or a query set")
    return len(half.y)
