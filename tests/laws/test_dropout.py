"""Law 4 and 6 for a net that drops: its noise is data, so that the direction is that of a loop with given masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.algorithms.interface import QUERY_NOISE
from metadist.noise import fold_in, uniform
from metadist.parameters import MetaParams
from metadist.shard import batched, looped
from metadist.tasks import Context, Task, TaskSpec
from tests.support import oracle
from tests.support.cases import CASES, Built, Case, Problem, build
from tests.support.draws import context, draw_params, draw_tasks, one, relative, vector
from tests.support.quick import SMALL_RUN, train_quickly

P = 0.4
SPEC = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=3, queries=2)
NET = {"factory": "tests.support.models:dropping", "options": {"p": P}}
PROBLEM = Problem(name="dropping", model=NET, spec=SPEC, smooth=True)
STILL = replace(PROBLEM, model={**NET, "options": {"p": 0.0}})
MAML = next(case for case in CASES if case.name == "maml-3")
BY_NAME = {case.name: case for case in CASES}
GRADIENTS = {
    "unroll": {"gradient": "unroll"},
    "reverse": {"gradient": "adjoint"},
    "forward": {"gradient": "adjoint", "hessian": "forward"},
}


def built_for(case: Case, problem: Problem = PROBLEM, **section: object) -> Built:
    return build(replace(case, section={**case.section, **section}), problem, "transductive")


def masked_loop(params: MetaParams, task: Task, key: int) -> dict[str, Tensor]:
    """Three steps of MAML by plain autograd; the masks of each pass follow from the task's key and the step."""
    phi = {name: leaf.detach().clone().requires_grad_() for name, leaf in params.model.items()}

    def net(weights: dict[str, Tensor], x: Tensor, word: int) -> Tensor:
        noise = fold_in(fold_in(torch.tensor(key), word), 1)  # the first layer of the net
        for name in ("first", "second"):
            x = torch.tanh(F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]))
            x = torch.where(uniform(noise, x.shape) < P, 0.0, x / (1 - P))
            noise = fold_in(noise, 0)  # which is called once more
        return F.linear(x, weights["head.weight"], weights["head.bias"])

    assert task.support is not None and task.query is not None
    assert isinstance(task.support.x, Tensor) and isinstance(task.query.x, Tensor)
    moved = phi
    for k in range(MAML.steps):
        value = oracle.loss(net(moved, task.support.x, k), task.support.y)
        slope = torch.autograd.grad(value, list(moved.values()), create_graph=True)
        moved = {name: leaf - MAML.lr * g for (name, leaf), g in zip(moved.items(), slope, strict=True)}
    value = oracle.loss(net(moved, task.query.x, QUERY_NOISE), task.query.y)
    return dict(zip(phi, torch.autograd.grad(value, list(phi.values())), strict=True))


@pytest.mark.parametrize("mode", GRADIENTS)
def test_the_direction_is_that_of_a_loop_with_given_masks(mode: str) -> None:
    built, count = built_for(MAML, **GRADIENTS[mode]), 3
    params, tasks = draw_params(built), draw_tasks(PROBLEM, count)
    found, _ = batched(built.algorithm.meta_gradient)(params, tasks, context(count))
    plain, _ = batched(built_for(MAML, STILL).algorithm.meta_gradient)(params, tasks, context(count))
    for index in range(count):
        mine = vector({name: leaf[index] for name, leaf in found.model.items()})
        assert relative(mine, vector(masked_loop(params, one(tasks, index), index))) <= 1e-10
        assert relative(mine, vector({name: leaf[index] for name, leaf in plain.model.items()})) > 0.1


@pytest.mark.parametrize("name", ["maml-3", "fomaml", "reptile", "protonet", "r2d2"])
def test_a_tasks_noise_is_its_own(name: str) -> None:
    """The same under vmap and in a loop, whatever the other tasks and torch's generator do."""
    built = built_for(BY_NAME[name])
    params, tasks = draw_params(built), draw_tasks(PROBLEM, 2)
    same = torch.tensor([5, 5])
    other = torch.tensor([5, 6])
    rows = []
    for run, keys in ((batched, same), (looped, other), (batched, other)):
        found, _ = run(built.algorithm.meta_gradient)(params, tasks, Context(context().progress, keys))
        rows.append([vector({n: leaf[i] for n, leaf in found.model.items()}) for i in range(2)])
        torch.rand(1)
    assert relative(rows[0][0], rows[1][0]) <= 1e-12 and relative(rows[1][1], rows[2][1]) <= 1e-12
    assert relative(rows[0][1], rows[1][1]) > 1e-3


@pytest.mark.parametrize("name", ["maml-3", "reptile", "protonet"])
def test_adapting_and_predicting_drop_nothing(name: str) -> None:
    dropping, still = (built_for(BY_NAME[name], problem) for problem in (PROBLEM, STILL))
    assert dropping.model.drops and not still.model.drops
    params, task = draw_params(dropping), one(draw_tasks(PROBLEM, 1), 0)
    assert task.support is not None and task.query is not None
    outputs = []
    for built in (dropping, still):
        adapted = built.algorithm.adapt(params, task.support, context(), num_steps=3)
        outputs.append(built.algorithm.predict(adapted, task.query.x))
    assert torch.equal(*outputs)


def test_two_runs_with_one_seed_have_the_same_bits(tmp_path: Path) -> None:
    settings = {"model": NET, "outer.num_steps": 3}
    digests = [
        train_quickly(SMALL_RUN, {**settings, **extra}, tmp_path / str(index)).summary["params_sha256"]
        for index, extra in enumerate(({}, {}, {"model.options.p": 0.0}))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
@pytest.mark.laws
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch has deprecated
def test_compiled_noise_has_the_same_bits() -> None:
    """Beside a transposed factor the compiler walks rows and columns apart: 6 * GOLDEN must not become an index."""

    def dropped(key: Tensor, x: Tensor) -> Tensor:
        return (uniform(key, x.shape) >= P) * x

    x = torch.arange(1.0, 55.0).reshape(6, 9).T
    for key in (torch.tensor(7), torch.tensor(2**62 + 1)):
        assert torch.equal(torch.compile(dropped, dynamic=False)(key, x), dropped(key, x))
