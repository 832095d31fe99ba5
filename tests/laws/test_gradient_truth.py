"""Law 4, gradient truth in float64, by whole-vector relative error: an independent autograd loop on every net,
central differences on smooth nets. And law 10: no leaf is dead by accident. Closed forms: `test_closed_forms`.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.config.presets import EMBEDDING, family_of
from metadist.parameters import MetaParams, named_leaves
from metadist.shard import batched
from metadist.tasks import Task
from tests.support import loops, oracle
from tests.support.cases import CASES, OPTIMIZERS, PROBLEMS, ROWS, Built, Case, Problem, build, label, marked
from tests.support.draws import PROGRESS, context, draw_params, draw_tasks, one, relative, vector

TASKS = 3
BY_NAME = {problem.name: problem for problem in PROBLEMS}


def oracle_net(problem: Problem, *, head: bool) -> oracle.Net:
    options: Any = problem.model.get("options", {})
    if problem.name.startswith("conv4"):
        return oracle.conv4(options["form"], options.get("film", "block"), head=head)
    if problem.name == "resnet12":
        return oracle.resnet12(head=head)
    if problem.name == "gru":
        return oracle.gru(options["layers"], head=head)
    if problem.name == "transformer":
        return oracle.transformer(options["layers"], options["heads"], head=head)
    if problem.name.startswith("mlp"):
        return oracle.mlp(options["activation"], len(options["hidden"]), head=head)
    return oracle.norm_tanh()


def halves(task: Task) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    assert task.support is not None and task.query is not None
    assert isinstance(task.support.x, Tensor) and isinstance(task.query.x, Tensor)
    return (task.support.x, task.support.y), (task.query.x, task.query.y)


def expected_direction(built: Built, case: Case, problem: Problem, params: MetaParams, task: Task, key: int) -> Any:
    """What the row's oracle says."""
    support, query = halves(task)
    settings = built.config.algorithm.model_dump()
    row = loops.Problem(
        rule=case.oracle,
        settings=settings,
        net=oracle_net(problem, head=family_of(settings["name"]) not in EMBEDDING),
        ways=problem.spec.outputs,
        key=key,
        progress=PROGRESS,
    )
    return loops.direction(row, named_leaves(params), support, query)


def agrees(built: Built, case: Case, problem: Problem) -> None:
    """Every task's direction under vmap is the oracle's."""
    params, tasks = draw_params(built), draw_tasks(problem, TASKS)
    found, _ = batched(built.algorithm.meta_gradient)(params, tasks, context(TASKS))
    for index in range(TASKS):
        expected = expected_direction(built, case, problem, params, one(tasks, index), index)
        mine = {name: leaf[index] for name, leaf in named_leaves(found).items()}
        assert list(expected) == list(mine)
        assert vector(expected).norm() > 1e-3, "the oracle's direction is degenerate"
        assert relative(vector(mine), vector(expected)) <= 1e-10


@pytest.mark.parametrize(("case", "problem", "mode"), marked(ROWS), ids=label)
def test_equals_an_independent_autograd_loop(case: Case, problem: Problem, mode: str) -> None:
    agrees(build(case, problem, mode), case, problem)


def quick(case: Case, optimizer: str, mode: str) -> bool:
    """Whether the cell is in ``make test``: each algorithm, each optimizer and each way back once or twice."""
    return (optimizer == "sgd" and mode == "reverse") or (case.name == "maml-3" and mode != "unroll") or not case.loops


LOOPING = [case for case in CASES if case.steps]
GRADIENTS = {
    "unroll": {"gradient": "unroll"},
    "reverse": {"gradient": "adjoint"},
    "forward": {"gradient": "adjoint", "hessian": "forward"},
}
VARIANTS = [
    pytest.param(case, optimizer, mode, marks=() if quick(case, optimizer, mode) else pytest.mark.laws)
    for case in LOOPING
    for optimizer in OPTIMIZERS
    for mode in GRADIENTS
    if (case.loops or mode == "unroll") and not (case.oracle == "implicit" and optimizer == "mini-batches")
]


@pytest.mark.parametrize(("case", "optimizer", "mode"), VARIANTS, ids=label)
def test_every_inner_optimizer_and_way_back(case: Case, optimizer: str, mode: str) -> None:
    """On a smooth net with a norm (CAVIA on one that has a context): algorithm x inner optimizer x gradient mode."""
    problem = BY_NAME["mlp-tanh" if case.context else "norm-tanh"]
    way = GRADIENTS[mode] if case.loops else {}
    varied = replace(case, section={**case.section, **OPTIMIZERS[optimizer], **way, "inner_steps": max(case.steps, 3)})
    agrees(build(varied, problem, "inductive"), varied, problem)


@pytest.mark.parametrize(("case", "problem", "mode"), marked(ROWS), ids=label)
def test_every_live_leaf_gets_a_gradient(case: Case, problem: Problem, mode: str) -> None:
    built = build(case, problem, mode)
    count = 8  # in a single task a unit may be at rest, or so active that its shift cancels
    params, tasks = draw_params(built, seed=1), draw_tasks(problem, count, seed=1)
    found, _ = batched(built.algorithm.meta_gradient)(params, tasks, context(count))
    for name, leaf in named_leaves(found).items():
        dead = any(fnmatchcase(name, pattern) for pattern in case.dead)
        assert (leaf.norm() < 1e-12) if dead else (leaf.norm() > 1e-9), name


SMOOTH = [(case, problem, mode) for case, problem, mode in ROWS if problem.smooth and case.scalar]


@pytest.mark.parametrize(("case", "problem", "mode"), marked(SMOOTH, costly=True), ids=label)
def test_equals_central_differences(case: Case, problem: Problem, mode: str) -> None:
    built = build(case, problem, mode)
    params, task = draw_params(built), one(draw_tasks(problem, 1), 0)
    found, _ = built.algorithm.meta_gradient(params, task, context())
    expected = central_differences(lambda tree: query_loss(built, tree, task, case.steps), named_leaves(params))
    assert relative(vector(found), vector(expected)) <= 1e-6


@pytest.mark.parametrize("problem", sorted({problem.name for _, problem, _ in SMOOTH}))
def test_fomaml_is_the_query_gradient_at_the_adapted_weights(problem: str) -> None:
    for case, row, mode in ROWS:
        if case.name != "fomaml" or row.name != problem:
            continue
        built = build(case, row, mode)
        params, task = draw_params(built), one(draw_tasks(row, 1), 0)
        assert task.support is not None
        found, _ = built.algorithm.meta_gradient(params, task, context())
        adapted = built.algorithm.adapt(params, task.support, context(), num_steps=case.steps).params
        there = named_leaves(MetaParams({name: adapted[name] for name in params.model}, {}))
        expected = central_differences(lambda tree: query_loss(built, tree, task, 0), there)  # noqa: B023
        assert relative(vector(found.model), vector(expected)) <= 1e-6


def query_loss(built: Built, tree: dict[str, Tensor], task: Task, steps: int) -> float:
    assert task.support is not None and task.query is not None
    halves = {kind: {k[6:]: v for k, v in tree.items() if k.startswith(kind)} for kind in ("model.", "inner.")}
    meta = MetaParams(halves["model."], halves["inner."])
    adapted = built.algorithm.adapt(meta, task.support, context(), num_steps=steps)
    return float(built.objective.loss(built.algorithm.predict(adapted, task.query.x), task.query))


def central_differences(function: Any, at: dict[str, Tensor], width: float = 1e-5) -> dict[str, Tensor]:
    slopes = {}
    for name, leaf in at.items():
        slope = torch.zeros(leaf.numel(), dtype=leaf.dtype)
        for place in range(leaf.numel()):
            ends = []
            for sign in (1, -1):
                moved = leaf.detach().clone().reshape(-1)
                moved[place] += sign * width
                ends.append(function({**at, name: moved.reshape(leaf.shape)}))
            slope[place] = (ends[0] - ends[1]) / (2 * width)
        slopes[name] = slope.reshape(leaf.shape)
    return slopes
