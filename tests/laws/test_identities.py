"""Law 5, identities between algorithms; law 6, vmap = loop; law 7, means over unequal parts. Float64 throughout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cluster import OrderedFold
from metadist.loop import meta_gradient
from metadist.parameters import MetaParams, flatten, layout_of
from metadist.shard import Engine, batched, looped, make_engine
from metadist.sums import Sums
from metadist.tasks import Batch, Task
from metadist.trainer import reduced
from tests.support.cases import CASES, PROBLEMS, ROWS, Case, Problem, _case, build, label, marked
from tests.support.draws import context, draw_params, draw_tasks, one, relative, vector

PLAIN = _case("plain", "maml", inner_steps=0)
BY_NAME = {problem.name: problem for problem in PROBLEMS}
ONE_OF_EACH = ["conv4-pool", "mlp-relu", "mlp-softplus"]


def directions(case: Case, problem: Problem, mode: str = "inductive", count: int = 2) -> dict[str, Tensor]:
    built = build(case, problem, mode)
    tasks = draw_tasks(problem, count)
    return batched(built.algorithm.meta_gradient)(draw_params(built), tasks, context(count))[0].model  # type: ignore[no-any-return]


@pytest.mark.parametrize("problem", ONE_OF_EACH)
@pytest.mark.parametrize("name", ["maml", "fomaml"])
def test_a_zero_inner_rate_is_the_plain_gradient(name: str, problem: str) -> None:
    still = _case("still", name, inner_steps=2, inner_lr=0.0)
    found, plain = (directions(case, BY_NAME[problem]) for case in (still, PLAIN))
    assert relative(vector(found), vector(plain)) <= 1e-12


@pytest.mark.parametrize("problem", ONE_OF_EACH)
def test_fomaml_is_not_maml(problem: str) -> None:
    first, second = (directions(_case(name, name, inner_steps=2), BY_NAME[problem]) for name in ("fomaml", "maml"))
    assert relative(vector(first), vector(second)) > 1e-3


@pytest.mark.parametrize("problem", ONE_OF_EACH)
def test_reptile_with_one_step_is_the_support_gradient(problem: str) -> None:
    row = BY_NAME[problem]
    reptile = build(_case("one", "reptile", "path", inner_steps=1, inner_lr=0.05), row, "inductive")
    params, task = draw_params(reptile), one(draw_tasks(row, 1), 0)
    found, _ = reptile.algorithm.meta_gradient(params, task, context())
    plain = build(PLAIN, row, "transductive")
    slope, _ = plain.algorithm.meta_gradient(params, Task(task.support, task.support), context())
    assert relative(vector(found.model), vector(slope.model)) <= 1e-10


@pytest.mark.parametrize("problem", ONE_OF_EACH)
@pytest.mark.parametrize("name", ["maml", "fomaml", "reptile"])
def test_adapting_the_head_leaves_the_body_alone(name: str, problem: str) -> None:
    row = BY_NAME[problem]
    built = build(_case("head", name, inner_steps=2, adapt=["head.*"]), row, "inductive")
    params, task = draw_params(built), one(draw_tasks(row, 1), 0)
    assert task.support is not None
    adapted = built.algorithm.adapt(params, task.support, context(), num_steps=2).params
    for leaf_name, leaf in params.model.items():
        same = torch.equal(adapted[leaf_name], leaf)
        assert same != leaf_name.startswith("head."), leaf_name


@pytest.mark.parametrize("mode", ["inductive", "transductive"])
@pytest.mark.parametrize("problem", ["conv4-stride", "mlp-relu"])
def test_protonet_is_a_linear_classifier(problem: str, mode: str) -> None:
    """-|f - c|^2 = 2 c'f - |c|^2 - |f|^2, and the last term is the same for all classes (Snell et al., eq. 8)."""
    row = BY_NAME[problem]
    built = build(next(case for case in CASES if case.name == "protonet"), row, mode)
    params, task = draw_params(built), one(draw_tasks(row, 1), 0)
    assert task.support is not None and task.query is not None
    adapted = built.algorithm.adapt(params, task.support, context(), num_steps=0)
    prototypes = adapted.head["prototypes"]
    features = built.model.forward(params.model, task.query.x, adapted.statistics or None)[0]
    linear = features @ (2 * prototypes).T - (prototypes**2).sum(1)
    found = built.algorithm.predict(adapted, task.query.x)
    assert torch.allclose(found.log_softmax(1), linear.log_softmax(1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("case", "row"),
    [(case, BY_NAME[name]) for case in CASES for name in ONE_OF_EACH if case.steps and case.fits(BY_NAME[name])],
    ids=label,
)
def test_the_path_ends_where_adapt_does(case: Case, row: Problem) -> None:
    built = build(case, row, "inductive")
    params, task = draw_params(built), one(draw_tasks(row, 1), 0)
    assert task.support is not None
    path = built.algorithm.path(params, task.support, context(), num_steps=3)
    assert len(path) == 4
    for steps, there in enumerate(path):
        alone = built.algorithm.adapt(params, task.support, context(), num_steps=steps)
        assert all(torch.equal(leaf, alone.params[name]) for name, leaf in there.params.items())
        assert all(torch.equal(leaf, alone.statistics[name]) for name, leaf in there.statistics.items())


@pytest.mark.parametrize(("case", "problem", "mode"), marked(ROWS), ids=label)
def test_vmap_equals_the_loop(case: Case, problem: Problem, mode: str) -> None:
    engines: list[Engine] = []
    for axis in ("vmap", "loop"):
        built = build(case, problem, mode, **{"engine.tasks_axis": axis, "evaluation.inner_steps": 2})
        engines.append(make_engine(built.algorithm, built.objective, built.config))
    params, tasks = draw_params(built), draw_tasks(problem, 3)
    together, apart = (engine.gradient(params, tasks, context(3)) for engine in engines)
    assert relative(vector(together[0]), vector(apart[0])) <= 1e-12
    assert together[1].keys() == apart[1].keys()
    for name, (value, count) in together[1].items():
        assert torch.allclose(value, apart[1][name][0], rtol=1e-12, atol=1e-12)
        assert torch.equal(count, apart[1][name][1])
    for mine, theirs in zip(*(engine.scores(params, tasks, context(3)) for engine in engines), strict=True):
        pairs = [(mine, theirs)] if isinstance(mine, Tensor) else [(mine[name], theirs[name]) for name in mine]  # type: ignore[index]
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in pairs)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch has deprecated
@pytest.mark.parametrize("case", [CASES[0], pytest.param(CASES[1], marks=pytest.mark.laws)], ids=label)
def test_compiled_equals_eager(case: Case) -> None:
    """A net below 500 parameters: compiling anything larger takes minutes."""
    problem = BY_NAME["mlp-tanh"]
    found = []
    for mode in ("on", "off"):
        built = build(case, problem, "inductive", **{"engine.compile": mode})
        engine = make_engine(built.algorithm, built.objective, built.config)
        found.append(engine.gradient(draw_params(built), draw_tasks(problem, 3), context(3))[0].model)
    assert vector(found[0]).numel() < 3 * 500
    assert relative(vector(found[0]), vector(found[1])) <= 1e-10


def with_weights(tasks: Task, seed: int) -> Task:
    """The tasks with unequal weights of their queries: some do not count, so that tasks have unequal counts."""
    assert tasks.query is not None
    draw = torch.Generator().manual_seed(seed)
    weight = (torch.rand(tasks.query.y.shape[:2], generator=draw) < 0.6).float()
    weight[:, 0] = 1.0
    weight[0] = 1.0
    return tasks._replace(query=tasks.query._replace(weight=weight))


def single(tasks: Task) -> Task:
    """The tasks in float32, as they travel."""

    def cast(batch: Batch | None) -> Batch | None:
        if batch is None or not isinstance(batch.x, Tensor):
            return batch
        return batch._replace(x=batch.x.float(), y=batch.y if batch.y.dtype == torch.int64 else batch.y.float())

    return Task(cast(tasks.support), cast(tasks.query))


@pytest.mark.parametrize("shard_size", [1, 2, 3, 6])
@pytest.mark.parametrize("problem", ["mlp-relu", "mlp-softplus"])
def test_a_step_is_the_mean_over_tasks_whatever_their_query_counts(problem: str, shard_size: int) -> None:
    row = BY_NAME[problem]
    built = build(CASES[0], row, "inductive")
    start = built.algorithm.init(0)
    tasks = with_weights(single(draw_tasks(row, 6)), 1)
    found, metrics = meta_gradient(built.algorithm, start, tasks, shard_size=shard_size)
    singles = []
    for index in range(6):
        task = one(tasks, index)
        assert task.query is not None and task.query.weight is not None and isinstance(task.query.x, Tensor)
        kept = task.query.weight > 0
        cut = task._replace(query=Batch(task.query.x[kept], task.query.y[kept]))  # the same task without weights
        singles.append(built.algorithm.meta_gradient(start, cut, context()))
    for name, leaf in found.model.items():
        mean = torch.stack([direction.model[name].double() for direction, _ in singles]).mean(0)
        assert torch.allclose(leaf.double(), mean, rtol=1e-4, atol=1e-6), name
    losses = [float(values["query_loss"][0]) for _, values in singles]
    assert metrics["query_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("case", "problem"),
    [(case, problem) for case in CASES for problem in PROBLEMS if not problem.normalises and case.fits(problem)],
    ids=label,
)
def test_an_example_without_weight_is_no_example(case: Case, problem: Problem) -> None:
    """Masked examples, in support and query, leave the direction as if they had not been drawn."""
    built = build(case, problem, "transductive")
    params, task = draw_params(built), one(draw_tasks(problem, 1), 0)
    cut, masked = [], []
    for half in (task.support, task.query):
        assert half is not None and isinstance(half.x, Tensor)
        kept = torch.ones(len(half.y), dtype=torch.bool)
        kept[1], kept[-1] = False, False
        cut.append(Batch(half.x[kept], half.y[kept]))
        masked.append(half._replace(weight=kept.double()))
    expected, metrics = built.algorithm.meta_gradient(params, Task(*cut), context())
    found, same = built.algorithm.meta_gradient(params, Task(*masked), context())
    assert relative(vector(found), vector(expected)) <= 1e-10
    assert all(torch.allclose(value, same[name][0]) for name, (value, _) in metrics.items())


def test_sums_divide_once_by_the_number_of_tasks() -> None:
    """Shards of unequal size: the mean is over tasks, not over shards."""
    tree = MetaParams({"w": torch.zeros(3)}, {})
    layout = layout_of(tree)
    rows = torch.arange(15.0).reshape(5, 3)
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 50.0])
    counts = torch.tensor([1.0, 1.0, 2.0, 3.0, 0.0])
    fold = OrderedFold(version=0, num_items=2)
    for index, (start, stop) in enumerate([(0, 4), (4, 5)]):
        sums = Sums(layout, "cpu")
        keys = tuple(f"task {task}" for task in range(start, stop))
        sums.add(
            MetaParams({"w": rows[start:stop]}, {}),
            {"loss": (values[start:stop], counts[start:stop])},
            keys=keys,
        )
        fold.add(0, index, sums.partial())
    folded = fold.result()
    assert folded.count == 5
    assert folded.metrics["loss"] == (60.0, 7.0)
    assert np.allclose(reduced(folded, "mean"), rows.mean(0))
    assert np.allclose(reduced(folded, "sum"), rows.sum(0))


def test_the_loop_is_a_stack_of_single_tasks() -> None:
    built = build(CASES[0], BY_NAME["mlp-tanh"], "inductive")
    params, tasks = draw_params(built), draw_tasks(BY_NAME["mlp-tanh"], 2)
    stacked = looped(built.algorithm.meta_gradient)(params, tasks, context(2))[0].model
    for index in range(2):
        alone, _ = built.algorithm.meta_gradient(params, one(tasks, index), context())
        assert all(torch.equal(stacked[name][index], leaf) for name, leaf in alone.model.items())


def test_flatten_keeps_the_layout_order() -> None:
    tree = MetaParams({"b": torch.ones(2), "a": torch.zeros(1)}, {"rate": torch.full((1,), 2.0)})
    assert flatten(tree).tolist() == [1.0, 1.0, 0.0, 2.0]
