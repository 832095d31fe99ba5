"""Law 4, gradient truth: where the answer is known in closed form, in float64, by whole-vector relative error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.tasks import Batch, TaskSpec
from tests.support.cases import CASES, Built, Problem, build
from tests.support.draws import context, draw_params, draw_tasks, one, relative, vector

LINEAR = Problem(
    name="linear",
    model={"name": "mlp", "options": {"hidden": []}},
    spec=TaskSpec(kind="regression", input_shape=(3,), outputs=1, shots=6, queries=4),
    smooth=True,
)
BY_NAME = {case.name: case for case in CASES}


class Quadratic:
    """A task of `LINEAR`: the support loss ``|Xw - y|^2 / n`` has the constant Hessian H = 2 X'X / n."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.case = BY_NAME[name]
        self.built = build(self.case, LINEAR, "transductive", **settings)
        self.params, self.task = draw_params(self.built), one(draw_tasks(LINEAR, 1), 0)
        support, self.query = self.task.support, self.task.query
        assert support is not None
        x = with_one(support)
        self.hessian, self.slope = 2 * x.T @ x / len(x), 2 * x.T @ support.y / len(x)
        self.start = joined(self.params.model)
        self.eye = torch.eye(len(self.start), dtype=torch.float64)

    def direction(self) -> Tensor:
        return joined(self.built.algorithm.meta_gradient(self.params, self.task, context())[0].model)

    def query_slope(self, w: Tensor) -> Tensor:
        assert self.query is not None
        u = with_one(self.query)
        return 2 * u.T @ (u @ w - self.query.y) / len(u)


@pytest.mark.parametrize("name", ["maml", "maml-0", "maml-3", "fomaml", "reptile"])
def test_inner_steps_on_linear_regression(name: str) -> None:
    """An inner step is ``w - lr H w + lr b``."""
    problem = Quadratic(name)
    case = problem.case
    contraction = problem.eye - case.lr * problem.hessian
    end = problem.start
    for _ in range(case.steps):
        end = contraction @ end + case.lr * problem.slope
    at_end = problem.query_slope(end)
    expected = {
        "maml": torch.linalg.matrix_power(contraction, case.steps) @ at_end,
        "fomaml": at_end,
        "reptile": (problem.start - end) / case.lr,
    }[case.section["name"]]
    assert relative(problem.direction(), expected) <= 1e-10


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_imaml_on_a_quadratic(decay: float) -> None:
    """The inner problem with decay d ends at ``(H + l + d)^-1 (b + l start)``, which moves with the start by
    ``l (H + l + d)^-1``."""
    pull = 0.7
    settings = {"inner_steps": 1000, "inner_lr": 0.1, "cg_steps": 8, "proximal": pull}
    settings["inner_optimizer.weight_decay"] = decay
    problem = Quadratic("imaml", **{f"algorithm.{key}": value for key, value in settings.items()})
    inverse = torch.linalg.inv(problem.hessian + (pull + decay) * problem.eye)
    end = inverse @ (problem.slope + pull * problem.start)
    assert problem.task.support is not None
    adapted = problem.built.algorithm.adapt(problem.params, problem.task.support, context(), num_steps=1000)
    assert relative(joined(adapted.params), end) <= 1e-10
    assert relative(problem.direction(), pull * inverse @ problem.query_slope(end)) <= 1e-10


def embedding(width: int) -> Problem:
    """Nine support points of three classes, embedded into ``width`` numbers."""
    spec = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=3, queries=2)
    options = {"hidden": [width], "activation": "tanh"}
    return Problem(name="points", model={"name": "mlp", "options": options}, spec=spec, smooth=True)


def checked_against(built: Built, problem: Problem, logits: Any) -> None:
    """Outputs up to a shift of a query's logits, and the direction by autograd through ``logits`` of the features."""
    params, task = draw_params(built), one(draw_tasks(problem, 1), 0)
    support, query = task.support, task.query
    assert support is not None and query is not None
    model = {name: leaf.clone().requires_grad_() for name, leaf in params.model.items()}
    inner = {name: leaf.clone().requires_grad_() for name, leaf in params.inner.items()}
    features = [built.model.forward(model, batch.x)[0] for batch in (support, query)]
    wanted = logits(features[0], F.one_hot(support.y, 3).double(), features[1], inner)
    found = built.algorithm.predict(built.algorithm.adapt(params, support, context(), num_steps=0), query.x)
    assert relative(found - found[:, :1], (wanted - wanted[:, :1]).detach()) <= 1e-10
    leaves = {**{f"model.{name}": leaf for name, leaf in model.items()}, **{f"inner.{n}": v for n, v in inner.items()}}
    slopes = torch.autograd.grad(F.cross_entropy(wanted, query.y), list(leaves.values()))
    direction, _ = built.algorithm.meta_gradient(params, task, context())
    expected = vector(dict(zip(leaves, slopes, strict=True)))
    assert expected.norm() > 1e-3
    assert relative(vector(direction), expected) <= 1e-10


@pytest.mark.parametrize("width", [5, 9, 14], ids=["fewer-features", "as-many", "more-features-than-examples"])
def test_r2d2_solves_the_normal_equations(width: int) -> None:
    """``(X'X + l) W = X'Y`` whatever the width, though more features than examples take the Woodbury form."""

    def logits(x: Tensor, y: Tensor, z: Tensor, inner: dict[str, Tensor]) -> Tensor:
        weight = torch.linalg.inv(x.T @ x + inner["log_ridge"].exp() * torch.eye(width, dtype=x.dtype)) @ x.T @ y
        return inner["scale"] * z @ weight

    problem = embedding(width)
    checked_against(build(BY_NAME["r2d2"], problem, "transductive"), problem, logits)


def test_protonet_is_a_linear_classifier() -> None:
    """``-|z - c|^2`` is ``2 c z - |c|^2`` but for a term that no softmax sees (Snell et al. 2017, section 2.4)."""

    def logits(x: Tensor, y: Tensor, z: Tensor, inner: dict[str, Tensor]) -> Tensor:
        centres = (y.T @ x) / y.sum(0)[:, None]
        return F.linear(z, 2 * centres, -centres.square().sum(1))

    problem = embedding(6)
    checked_against(build(BY_NAME["protonet"], problem, "transductive"), problem, logits)


def joined(model: Any) -> Tensor:
    return torch.cat([model["head.weight"].T, model["head.bias"][None]])


def with_one(batch: Batch) -> Tensor:
    assert isinstance(batch.x, Tensor)
    return torch.cat([batch.x, torch.ones(len(batch.x), 1, dtype=torch.float64)], dim=1)
