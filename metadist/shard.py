"""The work function: one shard in, its sums out. The only place where the task axis exists.

Legend: T tasks in a chunk, P meta-learned values, K inner steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from cluster import Partial
from metadist import numerics
from metadist.algorithms import MetaAlgorithm
from metadist.config import RunConfig, import_paths
from metadist.objectives import Objective
from metadist.parameters import Layout, MetaParams, aligned, unflatten
from metadist.seeding import torch_seed
from metadist.sums import Sums
from metadist.tasks import Context, Shard, Task, TaskSource


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Scores of an evaluation shard, one row a task.

    Attributes:
        query: metric or ``loss`` -> (T, K + 1) after 0..K inner steps, all queries in one pass.
        support_loss: (T, K + 1).
        one_query: metric -> (T,) after K steps, each query predicted alone.
    """

    query: dict[str, NDArray[np.float32]]
    support_loss: NDArray[np.float32]
    one_query: dict[str, NDArray[np.float32]]


class Engine(NamedTuple):
    """A task batch's functions: (meta, task with a T axis, context) -> per-task results with a T axis."""

    gradient: Callable[[MetaParams, Task, Context], tuple[MetaParams, dict[str, tuple[Tensor, Tensor]]]]
    scores: Callable[[MetaParams, Task, Context], tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]]


def make_engine(algorithm: MetaAlgorithm, objective: Objective, config: RunConfig) -> Engine:
    """Add the task axis to an algorithm, by vmap or by a loop, compiled where the configuration says so."""
    steps = config.evaluation.inner_steps
    num_steps = config.algorithm.inner_steps if steps is None else steps

    def scores(meta: MetaParams, task: Task, ctx: Context) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        assert task.support is not None and task.query is not None
        query, support = task.query, task.support
        by_step: dict[str, list[Tensor]] = {}
        before_after: list[Tensor] = []
        path = algorithm.path(meta, support, ctx, num_steps=num_steps)
        for adapted in path:
            outputs = algorithm.predict(adapted, query.x)
            for name, value in {
                "loss": objective.loss(outputs, query),
                **objective.metrics(outputs, query),
            }.items():
                by_step.setdefault(name, []).append(value)
            before_after.append(objective.loss(algorithm.predict(adapted, support.x), support))
        alone = each(lambda x: algorithm.predict(path[-1], x), tree_map(lambda x: x[:, None], query.x))[:, 0]
        one = {"loss": objective.loss(alone, query), **objective.metrics(alone, query)}
        return {name: torch.stack(values) for name, values in by_step.items()}, torch.stack(before_after), one

    lift, each = (batched, _each_at_once) if config.engine.tasks_axis == "vmap" else (looped, _each_alone)
    gradient = lift(algorithm.meta_gradient)
    if config.engine.compile == "on":
        numerics.pin_compiler()
        if algorithm.staged is not None and config.engine.tasks_axis == "vmap":
            gradient = algorithm.staged(lambda piece: torch.compile(_batched_piece(piece), dynamic=False))
        else:
            gradient = torch.compile(gradient, dynamic=False)
    return Engine(gradient, lift(scores))


def make_shard_function(
    judge: tuple[TaskSource, Engine],
    training: Sequence[tuple[TaskSource, Engine]],
    layout: Layout,
    config: RunConfig,
    device: str,
) -> Callable[[int, NDArray[np.float32], Shard], Partial | TaskScores]:
    """The function that a worker runs: (version, flat parameters (P,), shard) -> sums, or scores per task.

    Args:
        judge: Fixed tasks, and what judges them.
        training: The same for each shape of training tasks.
    """

    def run(version: int, flat: NDArray[np.float32], shard: Shard) -> Partial | TaskScores:
        meta = unflatten(flat, layout, device)
        if shard.kind == "evaluate":
            return _evaluate(meta, shard)
        return _train(meta, shard)

    def _train(meta: MetaParams, shard: Shard) -> Partial:
        source, engine = training[shard.shape]
        drop = config.outer.on_nonfinite == "drop"
        sums = Sums(layout, device, step=shard.step, shard=shard.index, drop=drop, own=own_parts(config))
        for start, stop in _chunks(shard, config):
            task = _moved(source.batch(shard.split, shard.step, start, stop), device)
            keys = shard.keys()[start - shard.start : stop - shard.start]
            sums.add(
                *engine.gradient(meta, task, context_of(config, shard.split, shard.step, start, stop, device)),
                keys=keys,
            )
        return sums.partial()

    def _evaluate(meta: MetaParams, shard: Shard) -> TaskScores:
        source, engine = judge
        parts = []
        with torch.no_grad():
            for start, stop in _chunks(shard, config):
                task = _moved(source.fixed(shard.split, start, stop), device)
                parts.append(
                    engine.scores(meta, task, context_of(config, shard.split, shard.step, start, stop, device))
                )
        return TaskScores(
            {name: _joined([part[0][name] for part in parts]) for name in parts[0][0]},
            _joined([part[1] for part in parts]),
            {name: _joined([part[2][name] for part in parts]) for name in parts[0][2]},
        )

    return run


def own_parts(config: RunConfig) -> tuple[str, ...]:
    """The parts of the user's own, as messages name them."""
    return tuple(f"{key} {path!r}" for key, path in import_paths(config).items())


def batched(
    function: Callable[[MetaParams, Task, Context], Any],
) -> Callable[[MetaParams, Task, Context], Any]:
    """Lift a function of one task to tasks with a leading T axis; parameters and progress are shared."""

    def lifted(meta: MetaParams, tasks: Task, ctx: Context) -> Any:
        axes = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, tasks)  # a half may be missing
        return vmap(function, in_dims=(None, axes, Context(None, 0)))(meta, tasks, ctx)  # type: ignore[arg-type]

    return lifted


def _batched_piece(piece: Callable[..., Any]) -> Callable[..., Any]:
    """Lift a piece (meta, ctx, k, *trees of one task) of a meta-gradient: meta and k are shared."""

    def lifted(meta: MetaParams, ctx: Context, k: Tensor, *trees: Any) -> Any:
        axes = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, trees)
        return vmap(piece, in_dims=(None, Context(None, 0), None, *axes))(meta, ctx, k, *trees)  # type: ignore[arg-type]

    return lifted


def part_of(tasks: Task, start: int, stop: int) -> Task:
    """Tasks ``start..stop-1``, copied into memory of their own: bits depend on alignment."""
    part: Task = _each(lambda leaf: aligned(leaf[start:stop]), tasks)
    return part


def _chunks(shard: Shard, config: RunConfig) -> Iterator[tuple[int, int]]:
    size = config.engine.chunk_size or shard.stop - shard.start
    for start in range(shard.start, shard.stop, size):
        yield start, min(start + size, shard.stop)


def context_of(config: RunConfig, split: str, step: int, start: int, stop: int, device: str = "cpu") -> Context:
    """Schedule and randomness of tasks ``start..stop-1`` of a step: they follow from the run's seed and length."""
    keys = [torch_seed(config.seed, split, step, index, "noise") for index in range(start, stop)]
    progress = torch.tensor(step / config.outer.num_steps)
    return Context(progress.to(device), torch.tensor(keys).to(device))


def _each_at_once(function: Callable[[Any], Tensor], x: Any) -> Tensor:
    return vmap(function)(x)


def _each_alone(function: Callable[[Any], Tensor], x: Any) -> Tensor:
    return torch.stack([function(_row(x, index)) for index in range(len(tree_leaves(x)[0]))])


def _row(tree: Any, index: int) -> Any:
    return _each(lambda leaf: leaf[index], tree)


def _moved(task: Task, device: str) -> Task:
    moved: Task = _each(lambda leaf: leaf.to(device), task)
    return moved


def _each(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Apply to the tensors of a task or a part of it; a half or a weight that is missing stays so."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def _joined(parts: list[Tensor]) -> NDArray[np.float32]:
    return torch.cat(parts).float().cpu().numpy()


def looped(
    function: Callable[[MetaParams, Task, Context], Any],
) -> Callable[[MetaParams, Task, Context], Any]:
    """The readable reference of vmap over tasks; for models that cannot be vmapped."""

    def looped(meta: MetaParams, tasks: Task, ctx: Context) -> Any:
        def one(i: int) -> Any:
            return function(meta, _row(tasks, i), Context(ctx.progress, ctx.noise_key[i]))

        results = [one(i) for i in range(len(ctx.noise_key))]
        return tree_map(lambda *leaves: torch.stack(leaves), results[0], *results[1:])

    return looped
