"""Law 6, adjoint = unroll in float64, by whole-vector relative error: 1e-12, with Adam 1e-9."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from metadist.parameters import MetaParams, named_leaves
from metadist.shard import batched, make_engine
from tests.support.cases import CASES, OPTIMIZERS, PROBLEMS, ROWS, Built, Case, Problem, build, label, marked
from tests.support.draws import context, draw_params, draw_tasks, relative, vector

BY_NAME = {problem.name: problem for problem in PROBLEMS}
BOUND = 1e-12
ADAM_BOUND = 1e-9  # it divides by roots of squares that may be near zero
TASKS = 2


def direction(case: Case, problem: Problem, mode: str, **way: str) -> tuple[MetaParams, Built]:
    changed = replace(case, section={**case.section, **way})
    built = build(changed, problem, mode)
    params, tasks = draw_params(built), draw_tasks(problem, TASKS)
    return batched(built.algorithm.meta_gradient)(params, tasks, context(TASKS))[0], built


LOOPING = [row for row in ROWS if row[0].loops and row[0].steps]


@pytest.mark.parametrize(("case", "problem", "mode"), marked(LOOPING), ids=label)
def test_adjoint_equals_unroll(case: Case, problem: Problem, mode: str) -> None:
    """Learned rates, the head or the body alone, a start made of the support set, taps: on every net."""
    unrolled, _ = direction(case, problem, mode, gradient="unroll")
    for hessian in ("reverse", "forward"):
        walked, built = direction(case, problem, mode, gradient="adjoint", hessian=hessian)
        assert built.algorithm.staged is not None
        assert relative(vector(walked), vector(unrolled)) <= BOUND, hessian


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", ["conv4-stride", "mlp-softplus"])
def test_adjoint_equals_unroll_through_the_optimizers_state(problem: str, optimizer: str) -> None:
    case = next(case for case in CASES if case.name == "step-rates")
    case = replace(case, section={**case.section, "inner_steps": 5, **OPTIMIZERS[optimizer]})
    unrolled, _ = direction(case, BY_NAME[problem], "transductive", gradient="unroll")
    walked, _ = direction(case, BY_NAME[problem], "transductive", gradient="adjoint")
    assert relative(vector(walked), vector(unrolled)) <= (ADAM_BOUND if optimizer == "adam" else BOUND)


def test_the_way_back_is_chosen_by_the_number_of_steps_alone() -> None:
    for steps, expected in ((0, "unroll"), (2, "unroll"), (3, "adjoint"), (20, "adjoint")):
        case = replace(CASES[0], section={"name": "maml", "inner_steps": steps})
        assert build(case, BY_NAME["mlp-tanh"], "transductive").config.algorithm.gradient == expected


@pytest.mark.parametrize("progress", [0.1, 0.6])
def test_second_derivatives_begin_where_they_are_asked_to(progress: float) -> None:
    """Derivative-order annealing (MAML++): FOMAML before that share of the run, MAML after, in both ways back."""
    problem, found = BY_NAME["mlp-tanh"], {}
    ways = {
        "fomaml": {"name": "fomaml"},
        "maml": {"name": "maml"},
        "annealed": {"second_order_from": 0.5, "gradient": "unroll"},
        "walked": {"second_order_from": 0.5, "gradient": "adjoint"},
    }
    for name, way in ways.items():
        built = build(replace(CASES[1], section={**CASES[1].section, **way}), problem, "transductive")
        ctx = context(TASKS)._replace(progress=torch.tensor(progress))
        params, tasks = draw_params(built), draw_tasks(problem, TASKS)
        found[name] = vector(batched(built.algorithm.meta_gradient)(params, tasks, ctx)[0])
    like, unlike = ("fomaml", "maml") if progress < 0.5 else ("maml", "fomaml")
    assert relative(found["annealed"], found[like]) <= BOUND
    assert relative(found["walked"], found[like]) <= BOUND
    assert relative(found["annealed"], found[unlike]) > 1e-3


@pytest.mark.slow
@pytest.mark.laws
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch has deprecated
def test_the_pieces_compile_once_for_all_steps() -> None:
    """A net below 500 parameters; five steps cost the compilations of one."""
    counts, problem = [], BY_NAME["mlp-tanh"]
    for steps in (3, 6):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        found = {}
        for mode in ("on", "off"):
            case = replace(CASES[0], section={"name": "maml", "inner_steps": steps, "gradient": "adjoint"})
            built = build(case, problem, "transductive", **{"engine.compile": mode})
            engine = make_engine(built.algorithm, built.objective, built.config)
            params, tasks = draw_params(built), draw_tasks(problem, TASKS)
            found[mode] = engine.gradient(params, tasks, context(TASKS))[0]
        assert relative(vector(found["on"]), vector(found["off"])) <= 1e-10
        assert list(named_leaves(found["on"])) == list(named_leaves(found["off"]))
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counts[0] == counts[1] > 0


@pytest.mark.slow
@pytest.mark.laws
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch has deprecated
def test_compiled_in_one_over_a_loop_of_tasks() -> None:
    """Where the compiler sees several tasks' states at once, it keeps them apart."""
    case, found = replace(CASES[0], section={"name": "maml", "inner_steps": 4, "gradient": "adjoint"}), {}
    for mode in ("on", "off"):
        options = {"engine.compile": mode, "engine.tasks_axis": "loop"}
        built = build(case, BY_NAME["mlp-tanh"], "transductive", **options)
        engine = make_engine(built.algorithm, built.objective, built.config)
        params, tasks = draw_params(built), draw_tasks(BY_NAME["mlp-tanh"], TASKS)
        found[mode] = vector(engine.gradient(params, tasks, context(TASKS))[0])
    assert relative(found["on"], found["off"]) <= 1e-10
