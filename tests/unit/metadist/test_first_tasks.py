"""What the start-up trial refuses of parts of a user's own, and of a store: before step 0, with the likely cause."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metadist.config.load import load_config
from metadist.errors import ConfigError, DataError, MetadistError, ModelError
from metadist.run import dry_run
from tasks_store import Column, write_store
from tests.support.quick import IMAGE_RUN, SMALL_RUN

CODE = """
import numpy as np
import torch
from torch import nn
from metadist.objectives import Objective
from metadist.transforms import Step


class Net(nn.Module):
    def __init__(self, spec, fault):
        super().__init__()
        self.layer, self.fault = nn.Linear(spec.input_shape[0], spec.outputs), fault

    def forward(self, x):
        if self.fault == "writes":
            x.mul_(2)
        found = self.layer(x)
        return found.detach() if self.fault == "detached" else found


def net(spec, fault="none"):
    return Net(spec, fault)


def raises(spec):
    return {}["width"]


def lazy(spec):
    return nn.Sequential(nn.LazyLinear(4), nn.Linear(4, spec.outputs))


def needs(spec, depth):
    return Net(spec, "none")


LOSSES = {
    "none": lambda error: error.square().mean(),
    "constant": lambda error: torch.ones(()),
    "nan": lambda error: (error.square().mean() * 0).log() * 0,
    "root": lambda error: (error * 0).square().mean().sqrt(),
    "metric": lambda error: error.square().mean(),
}


def objective(fault="none"):
    def loss(outputs, batch):
        return LOSSES[fault](outputs - batch.y)

    def metrics(outputs, batch):
        return {"share": (outputs.mean() * 0) / 0 if fault == "metric" else outputs.mean()}

    return Objective(loss, metrics)


def transform():
    return Step(lambda values, state: np.where(values > 0, values, np.nan))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with the parts above."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_first.py").write_text(CODE)
    yield "own_first"
    sys.modules.pop("own_first", None)


def tried(changes: dict[str, Any]) -> None:
    dry_run(load_config({**SMALL_RUN, **changes}), lambda message: None)


def factory(own: str, name: str, **options: Any) -> dict[str, Any]:
    return {"model": {"factory": f"{own}:{name}", "options": options}}


MODELS = {
    "raises": ("raises", {}, r"model.factory 'own_first:raises' failed: KeyError: 'width' \(.*own_first.py:\d+\)"),
    "lazy": ("lazy", {}, r"leaf '0.weight' of LazyLinear has no size .*spec.input_shape"),
    "missing": ("needs", {}, r"is called with \(TaskSpec\): missing a required argument: 'depth'"),
    "writes": ("net", {"fault": "writes"}, r"writes into its input"),
    "detached": (
        "net",
        {"fault": "detached"},
        r"model.factory 'own_first:net': no meta-learned leaf .* leaves \(.detach",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_of_ones_own_that_cannot_learn(case: str, own: str) -> None:
    name, options, message = MODELS[case]
    with pytest.raises(ConfigError, match=message) as caught:
        tried(factory(own, name, **options))
    assert caught.value.exit_code == 78 and "\n" not in str(caught.value)


def test_a_sound_model_of_ones_own_passes(own: str) -> None:
    tried(factory(own, "net"))


OBJECTIVES = {
    "constant": r"objective.name 'own_first:objective': no meta-learned leaf .* loss does not depend on the model's",
    "nan": r"objective.name 'own_first:objective': loss is nan on the run's first tasks",
    "root": r"objective.name 'own_first:objective': the gradient of its loss is nan on the run's first tasks",
    "metric": r"objective.name 'own_first:objective': metric 'share' is nan",
}


@pytest.mark.parametrize("fault", OBJECTIVES)
@pytest.mark.parametrize("axis", ["vmap", "loop"])
def test_an_objective_of_ones_own_that_teaches_nothing(fault: str, axis: str, own: str) -> None:
    part = {"objective": {"name": f"{own}:objective", "options": {"fault": fault}}, "engine": {"tasks_axis": axis}}
    with pytest.raises(ConfigError, match=OBJECTIVES[fault]):
        tried({**part, "evaluation": {"num_tasks": 4}})


def stored(folder: Path, value: float, *, of_target: bool = False) -> dict[str, Any]:
    """A run on a store with ``value`` in the first training row of every group."""
    draw, rows = np.random.default_rng(0), []
    for number in range(6):
        for place in range(8):
            x, y = draw.normal(size=2).astype(np.float32), float(draw.normal())
            if place == 0:
                x, y = (x, value) if of_target else (np.full(2, value, np.float32), y)
            split = "train" if number < 4 else "validation"
            rows.append({"group": f"g{number}", "split": split, "x": x, "y": y})
    columns = [Column(name="x", dtype="float32", shape=(2,)), Column(name="y", dtype="float32")]
    write_store(rows, folder / "store", name="s", kind="groups", columns=columns)
    tasks = {"path": str(folder / "store"), "kind": "groups", "shots": 4, "queries": 4, "target": "y"}
    return {**SMALL_RUN, "tasks": tasks}


@pytest.mark.parametrize("of_target", [False, True])
def test_a_store_that_is_not_finite_names_the_column(of_target: bool, tmp_path: Path) -> None:
    recipe = stored(tmp_path, math.inf, of_target=of_target)
    named = "column 'y'" if of_target else "column 'x'"
    with pytest.raises(DataError, match=rf"{named} of .*store: .* values of the split train are not finite"):
        tried(recipe)


def test_a_transform_that_is_not_finite_is_named(own: str, tmp_path: Path) -> None:
    recipe = stored(tmp_path, 1.0)
    recipe["tasks"]["transform"] = [{"name": "standardize"}, {"name": f"{own}:transform"}]
    with pytest.raises(ConfigError, match=r"tasks.transform 'own_first:transform' makes NaN or infinity .* column 'x'"):
        tried(recipe)


def test_a_transform_of_targets_is_told_under_its_own_key(tmp_path: Path) -> None:
    recipe = stored(tmp_path, -7.0, of_target=True)
    recipe["tasks"]["target_transform"] = [{"name": "log1p"}]
    with pytest.raises(DataError, match=r"tasks.target_transform: transform log1p needs values above -1"):
        tried(recipe)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "mlp", "options": {"wide": 3}}, "mlp has no model.options.wide; it has hidden, activation"),
        (
            {"name": "mlp", "options": {"activation": "sine"}},
            "'activation': 'sine'.* cannot be built: KeyError: 'sine'",
        ),
        ({"name": "mlp", "options": {"hidden": "many"}}, "'hidden': 'many'.* cannot be built: TypeError"),
    ],
)
def test_wrong_options_of_a_shipped_model(model: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        tried({"model": model})


def test_cavia_asks_for_a_context() -> None:
    with pytest.raises(MetadistError, match=r"matches none .*model.options.context: 5"):
        tried({"algorithm": {"name": "cavia", "inner_lr": 0.1}})


def test_rates_of_each_element_of_a_head_are_for_as_many_ways_everywhere(omniglot: str) -> None:
    recipe = {**IMAGE_RUN, "algorithm": {"name": "protomaml", "learned_rates": "element"}}
    with pytest.raises(ConfigError, match=r"tasks\.shapes: tasks of 3 ways learn other leaves .*learned_rates: leaf"):
        dry_run(load_config(recipe, {"tasks.shapes": [{"ways": 3}]}), pytest.fail)
