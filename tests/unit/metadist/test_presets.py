"""What an algorithm's name stands for, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metadist.algorithms.imaml import imaml
from metadist.config import AlgorithmConfig
from metadist.config.load import dump, load_config, validated
from metadist.config.presets import PRESETS, READS
from metadist.errors import ConfigError
from metadist.parts import build_parts
from metadist.tasks import TaskSpec
from tests.support.quick import SMALL_RUN

ROOT = Path(__file__).parents[3]


def resolved(section: dict[str, Any], **overrides: Any) -> Any:
    recipe = {
        "tasks": {"path": "nowhere"},
        "model": {"name": "conv4"},
        "objective": {"name": "classification"},
        "algorithm": section,
    }
    return load_config(recipe, overrides)


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_sets_its_switches_and_what_is_resolved_stays_so(name: str) -> None:
    config = resolved({"name": name})
    for key, value in PRESETS[name][1].items():
        assert getattr(config.algorithm, key) == value
    assert config.algorithm.gradient in ("unroll", "adjoint")
    assert config.evaluation.inner_steps == config.algorithm.inner_steps
    import yaml

    assert validated(yaml.safe_load(dump(config)), "again") == config


def test_a_switch_of_ones_own_wins() -> None:
    assert (
        resolved({"name": "maml++", "inner_steps": 2, "normalisation": "per-step-inductive"}).algorithm.inner_steps == 2
    )
    assert resolved({"name": "anil", "adapt": ["head.weight"]}).algorithm.adapt == ("head.weight",)
    assert resolved({"name": "maml++"}).outer.schedule.name == "cosine"
    assert resolved({"name": "maml++"}, **{"outer.schedule": {"name": "linear"}}).outer.schedule.name == "linear"


WRONG = [
    ({"name": "mamI"}, "did you mean 'maml'"),
    ({"name": "fomaml", "first_order": False}, "fomaml has first_order: True, not False"),
    ({"name": "meta-sgd", "learned_rates": "leaf"}, "meta-sgd has learned_rates: element, not leaf"),
    (
        {"name": "protonet", "inner_batch_size": 2},
        "inner_batch_size is not read by protonet; it is read by imaml, maml",
    ),
    ({"name": "maml", "ridge": 2.0}, "ridge is not read by maml; it is read by r2d2"),
    ({"name": "reptile", "gradient": "adjoint"}, "gradient is not read by reptile"),
    ({"name": "maml", "inner_optimizer": {"nesterov": True}}, "nesterov needs a momentum"),
    ({"name": "maml", "inner_optimizer": {"name": "adam", "momentum": 0.9}}, "momentum belongs to sgd"),
]


@pytest.mark.parametrize(("section", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_what_contradicts_a_name_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(section)


def test_every_setting_is_read_by_somebody() -> None:
    assert set(AlgorithmConfig.model_fields) == set().union(*READS.values())


def test_the_document_lists_every_name_and_setting() -> None:
    text = (ROOT / "docs" / "algorithms.md").read_text()
    for word in [*PRESETS, *set(AlgorithmConfig.model_fields) - {"name"}]:
        assert f"`{word}`" in text, word


def test_the_implicit_gradient_is_of_one_problem() -> None:
    spec = TaskSpec(kind="parameters", input_shape=(1,), outputs=1, shots=5, queries=5)
    model, objective, _ = build_parts(load_config(SMALL_RUN), spec)
    with pytest.raises(ConfigError, match="imaml takes no dropout"):
        imaml(model._replace(drops=True), objective, AlgorithmConfig(name="imaml"))
