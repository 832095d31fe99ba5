"""Random tasks and parameters in float64 for the rows of `tests.support.cases`, and how results are compared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metadist.parameters import MetaParams, named_leaves
from metadist.tasks import Batch, Context, Task
from tests.support.cases import Built, Problem


def draw_tasks(problem: Problem, count: int, *, seed: int = 0) -> Task:
    """``count`` random tasks in float64; support and query share their class means."""
    spec, draw = problem.spec, torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    if spec.kind == "regression":
        weights = normal(count, spec.input_shape[0], spec.outputs)
        halves = []
        for size in (spec.support_size, spec.query_size):
            x = normal(count, size, *spec.input_shape)
            halves.append(Batch(x, torch.sin(x @ weights)))
        return Task(*halves)
    means = normal(count, spec.outputs, *spec.input_shape)
    halves = []
    for a_class in (spec.shots, spec.queries):
        x = means.repeat_interleave(a_class, 1) + normal(count, spec.outputs * a_class, *spec.input_shape)
        y = torch.arange(spec.outputs).repeat_interleave(a_class).expand(count, -1).clone()
        halves.append(Batch(x, y))
    return Task(*halves)


def draw_params(built: Built, *, seed: int = 0) -> MetaParams:
    """Initial weights in float64, moved a little, so that no scale is exactly one and no bias exactly zero."""
    draw = torch.Generator().manual_seed(seed + 1)

    def moved(leaf: Tensor) -> Tensor:
        return leaf.double() + 0.1 * torch.randn(leaf.shape, generator=draw, dtype=torch.float64)

    start = built.algorithm.init(seed)
    inner = {
        # A learned rate stays positive.
        name: leaf.double() * (1 + 0.3 * torch.rand(leaf.shape, generator=draw, dtype=torch.float64))
        if name.startswith("rate.")
        else moved(leaf)
        for name, leaf in start.inner.items()
    }
    return MetaParams({name: moved(leaf) for name, leaf in start.model.items()}, inner)


def one(tasks: Task, index: int) -> Task:
    """Task ``index`` of tasks with a leading axis."""

    def pick(batch: Batch | None) -> Batch | None:
        if batch is None:
            return None
        weight = None if batch.weight is None else batch.weight[index]
        x = {name: leaf[index] for name, leaf in batch.x.items()} if isinstance(batch.x, dict) else batch.x[index]
        return Batch(x, batch.y[index], weight)

    return Task(pick(tasks.support), pick(tasks.query))


PROGRESS = 0.125  # exact in binary, so that float32 and float64 agree on it


def context(count: int | None = None) -> Context:
    """A context for one task, or for ``count`` of them, an eighth into the run."""
    return Context(torch.tensor(PROGRESS), torch.tensor(0) if count is None else torch.arange(count))


def vector(tree: Mapping[str, Tensor] | MetaParams) -> Tensor:
    """All leaves as one vector, in order."""
    found = named_leaves(tree) if isinstance(tree, MetaParams) else tree
    return torch.cat([leaf.reshape(-1) for leaf in found.values()])


def relative(found: Tensor, expected: Tensor) -> float:
    """Whole-vector relative error; the absolute one where nothing is expected."""
    scale = float(expected.norm())
    return float((found - expected).norm()) / (scale or 1.0)
