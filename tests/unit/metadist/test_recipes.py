"""Law 12: every shipped recipe runs two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metadist.settings import load_config, recipe_names
from tests.support.quick import train_quickly

SMALLER: dict[str, Any] = {
    "outer.num_steps": 2,
    "outer.meta_batch_size": 2,
    "outer.shard_size": 1,
    "evaluation.num_tasks": 2,
    "evaluation.validation_tasks": 2,
    "engine.compile": "off",
    "cluster.backend": "local",
}
STORES = {"customers": "customers", "glyphs": "few_glyphs", "omniglot": "omniglot", "sinusoids": "sinusoids"}


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_two_steps(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    config = load_config(name)
    assert config.tasks.path in STORES, "a recipe with a new store: add the fixture that makes it"
    request.getfixturevalue(STORES[config.tasks.path])
    smaller = dict(SMALLER)
    if config.model.name == "conv4":
        smaller["model.options"] = {**config.model.options, "filters": 4}
    run = train_quickly(load_config(name, smaller), {}, tmp_path / "run")  # type: ignore[arg-type]
    assert run.summary["steps"] == 2
    assert run.summary["best"]["metric"] == config.evaluation.metric
