"""The table of the laws: every algorithm has a row, which names its oracle, its identities and its dead leaves.

A new algorithm joins by adding its row to `CASES`; a new net or objective by adding its row to `PROBLEMS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from metadist.algorithms import MetaAlgorithm
from metadist.config import RunConfig
from metadist.config.load import load_config
from metadist.config.presets import ONE_PASS, family_of
from metadist.models import Model
from metadist.objectives import Objective
from metadist.parts import build_parts
from metadist.tasks import TaskSpec

MODES = ("inductive", "transductive")
NORMS = {  # (a norm for each step, mode) -> algorithm.normalisation
    (False, "inductive"): "inductive",
    (False, "transductive"): "transductive",
    (True, "inductive"): "per-step-inductive",
    (True, "transductive"): "per-step",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One algorithm with its settings.

    Attributes:
        name: Of the row.
        section: The ``algorithm`` section.
        oracle: Where its direction is known from: a rule of ``tests.support.loops``.
        scalar: Whether the direction is the gradient of the query loss after adaptation, so that central
            differences of that loss are an oracle, too.
        dead: Patterns of leaves whose direction is zero, with the reason.
        regression: Whether it can solve regression tasks.
        classes: Whether it can solve classification tasks.
        per_step: Whether it learns a scale and a shift of the norm for each inner step: needs a net with a norm.
        context: Width of the context vector that the net must have; 0 for none.
    """

    name: str
    section: Mapping[str, Any]
    oracle: str
    scalar: bool
    dead: Mapping[str, str] = field(default_factory=dict)
    regression: bool = True
    classes: bool = True
    per_step: bool = False
    context: int = 0

    @property
    def steps(self) -> int:
        return int(self.section.get("inner_steps", 0))

    @property
    def lr(self) -> float:
        return float(self.section.get("inner_lr", 0.0))

    @property
    def loops(self) -> bool:
        """Whether its gradient may be unrolled or walked back."""
        return family_of(self.section["name"]) in ("maml", "protomaml")

    def fits(self, problem: Problem) -> bool:
        """Whether the algorithm can solve the problem with its net."""
        return (
            (self.regression if problem.regression else self.classes)
            and (not self.per_step or problem.normalises)
            and (not self.context or problem.takes_context)
        )


def _case(name: str, algorithm: str, oracle: str = "through the loop", *, scalar: bool = False, **rest: Any) -> Case:
    own = {key: rest.pop(key) for key in ("dead", "regression", "classes", "per_step", "context") if key in rest}
    settings = {} if family_of(algorithm) in ONE_PASS else {"inner_steps": 1, "inner_lr": 0.3}
    return Case(name=name, section={"name": algorithm, **settings, **rest}, oracle=oracle, scalar=scalar, **own)


_STILL = {"model.[!h]*": "the inner loop does not move the body, and Reptile learns only from what moved"}
_MOMENTUM = {"name": "sgd", "momentum": 0.9}

CASES = (
    _case("maml", "maml", scalar=True),
    _case("maml-3", "maml", scalar=True, inner_steps=3, inner_lr=0.1),
    _case("maml-0", "maml", scalar=True, inner_steps=0),
    _case("maml-head", "anil", scalar=True, inner_steps=2),
    _case("boil", "boil", scalar=True, inner_steps=2),
    _case("fomaml", "fomaml", inner_steps=2),
    _case("meta-sgd", "meta-sgd", scalar=True, inner_steps=2),
    _case("leaf-rates", "maml", scalar=True, inner_steps=2, learned_rates="leaf", adapt=["head.*"]),
    _case("step-rates", "maml", scalar=True, inner_steps=3, inner_lr=0.1, learned_rates="leaf-step"),
    _case("maml++", "maml++", "taps", inner_steps=3, inner_lr=0.1, multi_step=0.5, per_step=True),
    _case("multi-step", "maml", "taps", inner_steps=3, inner_lr=0.1, multi_step=0.5),
    _case("cavia", "cavia", scalar=True, inner_steps=2, context=3),
    _case("reptile", "reptile", "path", inner_steps=3, inner_lr=0.1),
    _case("reptile-head", "reptile", "path", inner_steps=2, adapt=["head.*"], dead=_STILL),
    _case("imaml", "imaml", "implicit", inner_steps=4, inner_lr=0.1, cg_steps=3),
    _case("imaml-head", "imaml", "implicit", inner_steps=4, inner_lr=0.1, cg_steps=3, adapt=["head.*"]),
    _case("protomaml", "protomaml", scalar=True, inner_steps=2, inner_lr=0.05, regression=False),
    _case(
        "protonet",
        "protonet",
        "prototypes",
        scalar=True,
        regression=False,
        dead={
            "model.head.bias": "a shift of all embeddings moves no distance (shipped nets have no head here)",
            "model.encoder.final.bias": "the same",
        },
    ),
    _case("protonet-cosine", "protonet", "prototypes", scalar=True, regression=False, distance="cosine"),
    _case("r2d2", "r2d2", "ridge", scalar=True, ridge=0.5),
    _case("r2d2-prior", "r2d2", "ridge", scalar=True, ridge=0.5, prior_head=True, classes=False),
)

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"inner_optimizer": _MOMENTUM},
    "nesterov": {"inner_optimizer": {**_MOMENTUM, "nesterov": True}},
    "adam": {"inner_optimizer": {"name": "adam"}},
    "decay": {"inner_optimizer": {"weight_decay": 0.1}},
    "clipped": {"inner_optimizer": {"clip_norm": 0.5}},
    "mini-batches": {"inner_batch_size": 4},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One kind of task with a net for it.

    Attributes:
        smooth: Whether the net has second derivatives everywhere.
        normalises: Whether it has batch norm.
        sample: Names of the cases whose rows are in the normal suite, the others being `laws`; all where empty.
    """

    name: str
    model: Mapping[str, Any]
    spec: TaskSpec
    smooth: bool = False
    normalises: bool = False
    sample: tuple[str, ...] = ()

    @property
    def takes_context(self) -> bool:
        return self.model.get("name") in ("conv4", "mlp")

    @property
    def regression(self) -> bool:
        return self.spec.kind == "regression"


_IMAGES = TaskSpec(kind="classes", input_shape=(1, 16, 16), outputs=3, shots=2, queries=2)
_POINTS = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=3, queries=2)
_VALUES = TaskSpec(kind="regression", input_shape=(2,), outputs=2, shots=4, queries=5)
_SEQUENCES = TaskSpec(kind="classes", input_shape=(3, 2), outputs=3, shots=2, queries=2)
_SAMPLE = ("maml-3", "protonet", "r2d2")

PROBLEMS = (
    Problem(
        name="conv4-stride",
        model={"name": "conv4", "options": {"filters": 4, "form": "stride"}},
        spec=_IMAGES,
        normalises=True,
    ),
    Problem(
        name="conv4-pool",
        model={"name": "conv4", "options": {"filters": 4, "form": "pool", "film": "features"}},
        spec=_IMAGES,
        normalises=True,
    ),
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
    Problem(
        name="norm-tanh",
        model={"factory": "tests.support.models:smooth"},
        spec=_POINTS,
        smooth=True,
        normalises=True,
    ),
    Problem(
        name="resnet12",
        model={"name": "resnet12", "options": {"widths": [4, 4, 4, 4]}},
        spec=_IMAGES,
        normalises=True,
        sample=("maml++", "protonet"),
    ),
    Problem(
        name="gru",
        model={"name": "gru", "options": {"width": 3, "layers": 1}},
        spec=_SEQUENCES,
        smooth=True,
        sample=_SAMPLE,
    ),
    Problem(
        name="transformer",
        model={"name": "transformer", "options": {"width": 4, "heads": 2, "layers": 1}},
        spec=_SEQUENCES,
        smooth=True,
        sample=_SAMPLE,
    ),
)

# An mlp does not normalise, so both modes are one there.
ROWS = [
    (case, problem, mode)
    for case in CASES
    for problem in PROBLEMS
    for mode in MODES
    if case.fits(problem) and (mode == "transductive" or problem.normalises)
]


def marked(rows: Iterable[tuple[Case, Problem, str]], *, costly: bool = False) -> list[Any]:
    """The rows for pytest, with the mark `laws` on those outside their problem's sample.

    A ``costly`` law has of such a problem only the algorithms without inner steps in the normal suite.
    """

    def sampled(case: Case, problem: Problem) -> bool:
        return not problem.sample or (case.name in problem.sample and not (costly and case.steps))

    return [pytest.param(*row, marks=() if sampled(*row[:2]) else pytest.mark.laws) for row in rows]


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
        "model": with_context(problem.model, case.context),
        "objective": {"name": "regression" if problem.regression else "classification"},
        "algorithm": {**case.section, "normalisation": NORMS[case.per_step, mode]},
    }
    return load_config(tree, overrides)


def with_context(model: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The model section, with a context vector where the algorithm adapts one."""
    return {**model, "options": {**model.get("options", {}), "context": width}} if width else dict(model)


def build(case: Case, problem: Problem, mode: str, **overrides: Any) -> Built:
    """Model, objective and algorithm of a row."""
    config = config_for(case, problem, mode, **overrides)
    return Built(config, *build_parts(config, problem.spec))


def label(value: object) -> str | None:
    """Names rows in pytest's output."""
    return value.name if isinstance(value, Case | Problem) else None
