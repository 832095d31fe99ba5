"""Law 12: every shipped recipe runs two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metadist.config.load import load_config
from metadist.config.recipes import recipe_names
from tasks_store import Column, named_store, write_store
from tests.support.bert import write_bert, write_tokenizer
from tests.support.quick import train_quickly
from tests.support.tables import hours_store

SMALLER: dict[str, Any] = {
    "outer.num_steps": 2,
    "outer.meta_batch_size": 2,
    "outer.shard_size": 1,
    "evaluation.num_tasks": 2,
    "evaluation.validation_tasks": 2,
    "engine.compile": "off",
    "cluster.backend": "local",
}
STORES = {
    "banking77": "sentences",
    "beijing-air": "beijing_air",
    "clinc150": "sentences",
    "customers": "customers",
    "glyphs": "few_glyphs",
    "omniglot": "omniglot",
    "sinusoids": "sinusoids",
}


@pytest.fixture(scope="session")
def beijing_air(home: Path) -> str:
    """The store ``beijing-air`` of two stations."""
    two = "(station = 'Tiantan' or station = 'Gucheng') and month <= 3"
    place = named_store("beijing-air")
    if not place.exists():
        hours_store(place, where=two)
    return place.name


@pytest.fixture(scope="session")
def sentences(home: Path) -> None:
    """The stores and the encoder of the recipes for text: few sentences of many intents, and a tiny encoder."""
    place = home / "encoders" / "all-MiniLM-L6-v2"
    if place.exists():
        return
    words = [f"word{number}" for number in range(40)]
    columns = [Column(name="text", dtype="string")]
    rows = [
        {
            "group": f"intent-{number}",
            "split": ("train", "validation", "test")[number // 20],
            "domain": f"domain-{number // 20}",
            "text": f"{words[number % 40]} {words[turn]}",
        }
        for number in range(60)
        for turn in range(4)
    ]
    for name in ("banking77", "clinc150"):
        write_store(rows, named_store(name), name=name, kind="classes", columns=columns)
    write_bert(place, vocab_size=60, max_position_embeddings=32)
    write_tokenizer(place, words, size=60)


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
