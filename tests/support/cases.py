"""The table of the laws: every algorithm has a row, which names its oracle, its identities and its dead leaves.

A new algorithm joins by adding its row to `CASES`; a new net or objective by adding its row to `PROBLEMS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metadist.algorithms import MetaAlgorithm
from metadist.config import RunConfig
from metadist.models import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams
from metadist.parts import build_parts
from metadist.settings import load_config
from metadist.tasks import Batch, Context, Task, TaskSpec

MODES = ("inductive", "transductive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One algorithm with its settings.

    Attributes:
        name: Of the row.
        section: The ``algorithm`` section.
        oracle: How ``tests.support.oracle`` computes its direction: its rule for the outer loop.
        scalar: Whether the direction is the gradient of the query loss after adaptation, so that central
            differences of that loss are an oracle, too.
        dead: Patterns of leaves whose direction is zero, with the reason.
        regression: Whether it can solve regression tasks.
    """

    name: str
    section: Mapping[str, Any]
    oracle: str
    scalar: bool
    dead: Mapping[str, str] = field(default_factory=dict)
    regression: bool = True

    @property
    def steps(self) -> int:
        return int(self.section.get("inner_steps", 0))

    @property
    def lr(self) -> float:
        return float(self.section.get("inner_lr", 0.0))

    @property
    def adapt(self) -> tuple[str, ...]:
        return tuple(self.section.get("adapt", ("*",)))


def _case(name: str, algorithm: str, oracle: str, *, scalar: bool = False, **rest: Any) -> Case:
    own = {key: rest.pop(key) for key in ("dead", "regression") if key in rest}
    settings = {} if algorithm == "protonet" else {"inner_steps": 1, "inner_lr": 0.3, **rest}
    return Case(name=name, section={"name": algorithm, **settings}, oracle=oracle, scalar=scalar, **own)


CASES = (
    _case("maml", "maml", "second order", scalar=True),
    _case("maml-3", "maml", "second order", scalar=True, inner_steps=3, inner_lr=0.1),
    _case("maml-0", "maml", "second order", scalar=True, inner_steps=0),
    _case("maml-head", "maml", "second order", scalar=True, inner_steps=2, adapt=["head.*"]),
    _case("fomaml", "fomaml", "first order", inner_steps=2),
    _case("reptile", "reptile", "path", inner_steps=3, inner_lr=0.1),
    _case(
        "reptile-head",
        "reptile",
        "path",
        inner_steps=2,
        adapt=["head.*"],
        dead={"[!h]*": "the inner loop does not move the body, and Reptile learns only from what moved"},
    ),
    _case(
        "protonet",
        "protonet",
        "prototypes",
        scalar=True,
        regression=False,
        dead={"head.bias": "a shift of all embeddings moves no distance (shipped nets have no head here)"},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One kind of task with a net for it. ``smooth`` nets have second derivatives everywhere."""

    name: str
    model: Mapping[str, Any]
    spec: TaskSpec
    smooth: bool = False

    @property
    def regression(self) -> bool:
        return self.spec.kind == "regression"


_IMAGES = TaskSpec(kind="classes", input_shape=(1, 16, 16), outputs=3, shots=2, queries=2)
_POINTS = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=3, queries=2)
_VALUES = TaskSpec(kind="regression", input_shape=(2,), outputs=2, shots=4, queries=5)

PROBLEMS = (
    Problem(name="conv4-stride", model={"name": "conv4", "options": {"filters": 4, "form": "stride"}}, spec=_IMAGES),
    Problem(name="conv4-pool", model={"name": "conv4", "options": {"filters": 4, "form": "pool"}}, spec=_IMAGES),
    Problem(name="mlp-relu", model={"name": "mlp", "options": {"hidden": [8, 8], "activation": "relu"}}, spec=_POINTS),
    Problem(
        name="mlp-tanh",
        model={"name": "mlp", "options": {"hidden": [6], "activation": "tanh"}},
        spec=_POINTS,
        smooth=True,
    ),
    Problem(
        name="mlp-softplus",
        model={"name": "mlp", "options": {"hidden": [5, 4], "activation": "softplus"}},
        spec=_VALUES,
        smooth=True,
    ),
    Problem(name="norm-tanh", model={"factory": "tests.support.models:smooth"}, spec=_POINTS, smooth=True),
)

# An mlp does not normalise, so both modes are one there.
ROWS = [
    (case, problem, mode)
    for case in CASES
    for problem in PROBLEMS
    for mode in MODES
    if (case.regression or not problem.regression) and (mode == "transductive" or not problem.name.startswith("mlp"))
]


class Built(NamedTuple):
    config: RunConfig
    model: Model
    objective: Objective
    algorithm: MetaAlgorithm


def config_for(case: Case, problem: Problem, mode: str, **overrides: Any) -> RunConfig:
    """The configuration of a row; its store is never opened."""
    spec = problem.spec
    sizes = {"shots": spec.shots, "queries": spec.queries}
    tree = {
        "tasks": {"source": "synthetic", "name": "sinusoid", "kind": "parameters", **sizes}
        if problem.regression
        else {"path": "nowhere", "ways": spec.outputs, **sizes},
        "model": dict(problem.model),
        "objective": {"name": "regression" if problem.regression else "classification"},
        "algorithm": {**case.section, "normalisation": mode},
    }
    return load_config(tree, overrides)


def build(case: Case, problem: Problem, mode: str, **overrides: Any) -> Built:
    """Model, objective and algorithm of a row."""
    config = config_for(case, problem, mode, **overrides)
    return Built(config, *build_parts(config, problem.spec))


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
    return MetaParams({name: moved(leaf) for name, leaf in start.model.items()}, {})


def one(tasks: Task, index: int) -> Task:
    """Task ``index`` of tasks with a leading axis."""

    def pick(batch: Batch | None) -> Batch | None:
        if batch is None:
            return None
        assert isinstance(batch.x, Tensor)
        weight = None if batch.weight is None else batch.weight[index]
        return Batch(batch.x[index], batch.y[index], weight)

    return Task(pick(tasks.support), pick(tasks.query))


def context(count: int | None = None) -> Context:
    """A context for one task, or for ``count`` of them."""
    return Context(torch.zeros(()), torch.tensor(0) if count is None else torch.arange(count))


def vector(tree: Mapping[str, Tensor]) -> Tensor:
    """All leaves as one vector, in order."""
    return torch.cat([leaf.reshape(-1) for leaf in tree.values()])


def relative(found: Tensor, expected: Tensor) -> float:
    """Whole-vector relative error; the absolute one where nothing is expected."""
    scale = float(expected.norm())
    return float((found - expected).norm()) / (scale or 1.0)


def label(value: object) -> str | None:
    """Names rows in pytest's output."""
    return value.name if isinstance(value, Case | Problem) else None
