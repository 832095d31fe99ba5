"""Support sets of unequal size: a padded one is the unpadded one, and an empty one leaves the start as it is."""

from __future__ import annotations

import pytest
import torch

from metadist.objectives import mean_over_examples
from metadist.shard import batched, make_engine
from metadist.tasks import Batch, Task, TaskSpec
from tests.support.cases import CASES, PROBLEMS, Case, Problem, build, label
from tests.support.draws import context, draw_params, draw_tasks, one, relative, vector

VALUES = next(problem for problem in PROBLEMS if problem.name == "mlp-softplus")
REGRESSION = [case for case in CASES if case.fits(VALUES)]


def cut(task: Task, size: int) -> tuple[Task, Task]:
    """The task with ``size`` support examples, and the same padded to as many as it had."""
    support = task.support
    assert support is not None and isinstance(support.x, torch.Tensor)
    kept = torch.arange(len(support.y)) < size
    padded = Batch(
        torch.where(kept[:, None], support.x, 0.0), torch.where(kept[:, None], support.y, 0.0), kept.double()
    )
    return task._replace(support=Batch(support.x[:size], support.y[:size])), task._replace(support=padded)


@pytest.mark.parametrize("size", [0, 1, 3, 4])
@pytest.mark.parametrize("case", REGRESSION, ids=label)
def test_a_padded_support_set_is_the_unpadded_one(case: Case, size: int) -> None:
    built = build(case, VALUES, "inductive")
    params, task = draw_params(built), one(draw_tasks(VALUES, 1), 0)
    plain, padded = cut(task, size)
    expected, metrics = built.algorithm.meta_gradient(params, plain, context())
    found, same = built.algorithm.meta_gradient(params, padded, context())
    assert relative(vector(found), vector(expected)) <= 1e-12
    assert torch.isfinite(vector(found)).all()
    for name, (value, _) in metrics.items():
        assert torch.allclose(value, same[name][0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", REGRESSION, ids=label)
def test_an_empty_support_set_is_the_start(case: Case) -> None:
    """Loss and slope over no example are zero, so that every step of every algorithm stays where it is."""
    built = build(case, VALUES, "inductive", **{"evaluation.inner_steps": 2})
    params, tasks = draw_params(built), draw_tasks(VALUES, 3)
    for half in cut(one(tasks, 0), 0):
        assert half.support is not None
        adapted = built.algorithm.adapt(params, half.support, context(), num_steps=3)
        for name, leaf in adapted.params.items():
            start = params.model[name]
            assert torch.equal(leaf, start), name
    assert tasks.support is not None and isinstance(tasks.support.x, torch.Tensor)
    nothing = Batch(tasks.support.x[:, :1] * 0, tasks.support.y[:, :1] * 0, torch.zeros(3, 1, dtype=torch.float64))
    empty = tasks._replace(support=nothing)
    engine = make_engine(built.algorithm, built.objective, built.config)
    query, support_loss, _ = engine.scores(params, empty, context(3))
    assert not support_loss.any() and torch.equal(query["loss"][:, 0], query["loss"][:, -1])
    gradient, _ = batched(built.algorithm.meta_gradient)(params, empty, context(3))
    assert torch.isfinite(vector(gradient)).all()
    assert bool(vector(gradient).any()) != case.name.startswith("reptile"), "Reptile learns from what moved only"


def test_the_mean_over_no_example_is_zero_and_so_is_its_slope() -> None:
    values = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for weight in (torch.zeros(2, dtype=torch.float64), None):
        given = values if weight is not None else values[:0]
        mean, slope = torch.func.grad_and_value(mean_over_examples)(given, weight)[::-1]
        assert mean == 0 and not slope.any()
    assert mean_over_examples(values, torch.tensor([1.0, 3.0])) == 3.75


MASKABLE: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "gru": ({"width": 3}, (4, 2)),
    "transformer": ({"width": 4, "heads": 2, "layers": 1}, (4, 2)),
    "conv4": ({"filters": 2, "norm": "group"}, (1, 32, 32)),
    "resnet12": ({"widths": [2, 2, 2, 2], "norm": "layer"}, (1, 16, 16)),
}


@pytest.mark.parametrize("name", MASKABLE)
def test_every_shipped_model_starts_from_nothing(name: str) -> None:
    """The loss of an empty support set moves no leaf, and a padded set is the unpadded one, in nets of every kind."""
    options, shape = MASKABLE[name]
    spec = TaskSpec(kind="regression", input_shape=shape, outputs=1, shots=3, queries=2)
    problem = Problem(name=name, model={"name": name, "options": options}, spec=spec)
    built = build(next(case for case in CASES if case.name == "maml-3"), problem, "inductive")
    assert built.model.maskable
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(3, *shape, generator=draw).double(), torch.rand(3, 1, generator=draw).double()
    params = draw_params(built)
    found = []
    for kept, count in ((torch.zeros(3), 3), (torch.tensor([1.0, 1.0, 0.0]), 3), (None, 2)):
        weight = None if kept is None else kept.double()
        zeroed = x if weight is None else x * weight.reshape(3, *[1] * len(shape))
        support = Batch(zeroed[:count], y[:count], weight)
        found.append(built.algorithm.adapt(params, support, context(), num_steps=2).params)
    assert all(torch.equal(leaf, params.model[leaf_name]) for leaf_name, leaf in found[0].items())
    assert relative(vector(found[1]), vector(found[2])) <= 1e-12
    assert relative(vector(found[1]), vector(found[0])) > 1e-6
