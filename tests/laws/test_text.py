"""Sentences by a pretrained tokenizer and encoder: strings in, labels out; a bundle needs nothing of their folder."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from metadist import Run
from metadist.adapter import Adapter
from metadist.config.load import load_config
from metadist.errors import ConfigError, DataError, FingerprintMismatch
from metadist.evidence.controls import run_evidence
from metadist.registry import build_bundle
from metadist.registry.flavour import requirements
from metadist.sources import build_source
from tasks_store import Store, load_split
from tests.support import bert
from tests.support.quick import NoMirror, train_quickly
from tests.support.tables import bank_store

LENGTH = 10


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Real questions to a bank, and a tiny encoder with the tokenizer of their training split."""
    place = tmp_path_factory.mktemp("text")
    store = bank_store(place)
    encoder = bert.write_bert(place / "encoder", vocab_size=60)
    bert.write_tokenizer(encoder, load_split(Store.open(store), "train").arrays["text"].tolist(), size=60)
    pretrained = {"unit": "pretrained", "path": str(encoder), "length": LENGTH}
    return {
        "tasks": {
            "path": store,
            "ways": 3,
            "shots": 2,
            "queries": 2,
            "transform": [{"name": "tokenize", "options": pretrained}],
        },
        "model": {"name": "encoder", "options": {"path": str(encoder), "rank": 2}},
        "objective": {"name": "classification"},
        "algorithm": {"name": "protonet"},
        "outer": {"lr": 0.01, "meta_batch_size": 4, "shard_size": 2, "num_steps": 4},
        "engine": {"compile": "off"},
        "cluster": {"backend": "local"},
        "evaluation": {"every_steps": 2, "num_tasks": 4},
        "checkpoint": {"every_steps": 2},
    }


@pytest.fixture(scope="module")
def run(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_quickly(recipe, {}, tmp_path_factory.mktemp("trained") / "run")


def test_tokens_are_the_librarys_own(recipe: dict[str, Any], run: Run) -> None:
    from tokenizers import Tokenizer

    config = load_config(recipe)
    data = load_split(Store.open(recipe["tasks"]["path"]), "test")
    text = data.arrays["text"][:20]
    chain = build_source(config, recipe["tasks"]["path"]).chain  # type: ignore[attr-defined]
    found = chain(text[None])
    tokenizer = Tokenizer.from_file(str(Path(recipe["model"]["options"]["path"]) / "tokenizer.json"))
    cut = 0
    for index, sentence in enumerate(text.tolist()):
        ids = tokenizer.encode(sentence).ids
        cut += len(ids) > LENGTH
        kept = found["ids"][0, index][found["mask"][0, index] > 0].tolist()
        assert kept == (ids if len(ids) <= LENGTH else [*ids[: LENGTH - 1], tokenizer.token_to_id("[SEP]")])
    assert 0 < cut < len(text), "both short and long sentences"


def test_a_bundle_answers_raw_text_without_the_folder(recipe: dict[str, Any], run: Run, tmp_path: Path) -> None:
    bundle = build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=4)
    encoder = Path(recipe["model"]["options"]["path"])
    away = shutil.move(encoder, tmp_path / "away")
    try:
        adapter = Adapter(bundle)
        assert adapter.self_test() == 0.0
        asked = ["my card is lost", "where is my card", "change my pin", "new pin please", "pay by cheque", "a cheque"]
        answers = adapter.adapt(asked, ["card", "card", "pin", "pin", "cheque", "cheque"]).predict(asked[:3])
        assert len(answers) == 3 and set(answers) <= {"card", "pin", "cheque"}
    finally:
        shutil.move(away, encoder)
    names = [line.partition("==")[0] for line in requirements(bundle)]
    assert {"transformers", "tokenizers"} <= set(names)


def test_baselines_count_words(run: Run) -> None:
    """The support sentences alone, by the words they share with a query; of equally near ones any will do."""
    with mock.patch("metadist.run_reader.MlflowMirror", NoMirror):
        report = run.evaluate(num_tasks=6)
    found = run_evidence(run.run_dir, report, {}, print)
    assert list(found) == ["pretrained start, adapted", "1-nearest neighbour", "class means", "logistic regression"]

    tasks = run.parts().source.fixed("test", 0, 6)
    assert tasks.support is not None and tasks.query is not None
    support, asked = (
        [
            [Counter(one[on > 0].tolist()) for one, on in zip(*task, strict=True)]
            for task in zip(half.x["ids"], half.x["mask"], strict=True)
        ]
        for half in (tasks.support, tasks.query)
    )
    surely, perhaps = [], []
    for task, queries in enumerate(asked):
        for number, query in enumerate(queries):
            cosines = [
                sum(one[word] * query[word] for word in one) / math.hypot(*one.values()) for one in support[task]
            ]
            nearest = np.isclose(cosines, max(cosines))
            right = (tasks.support.y[task] == tasks.query.y[task][number]).numpy()[nearest]
            surely.append(right.all())
            perhaps.append(right.any())
    hits = found["1-nearest neighbour"]["accuracy"] * len(surely)
    assert hits == pytest.approx(round(hits)) and sum(surely) <= round(hits) <= sum(perhaps) < len(surely)


def test_another_tokenizer_is_another_run(recipe: dict[str, Any], run: Run, tmp_path: Path) -> None:
    file = Path(recipe["model"]["options"]["path"]) / "tokenizer.json"
    before = file.read_bytes()
    shutil.copytree(run.run_dir, tmp_path / "run")
    bert.write_tokenizer(file.parent, ["other words than before"], size=60)
    try:
        with pytest.raises(FingerprintMismatch, match="transform"):
            train_quickly(recipe, {"outer.num_steps": 6}, tmp_path / "run", resume=True)
    finally:
        file.write_bytes(before)


def test_what_is_wrong_is_said(recipe: dict[str, Any], tmp_path: Path) -> None:
    def options(**other: Any) -> dict[str, Any]:
        return {"tasks.transform": [{"name": "tokenize", "options": other}]}

    with pytest.raises(ConfigError, match="unit pretrained and path"):
        load_config(recipe, options(unit="pretrained"))
    with pytest.raises(ConfigError, match="lower is the pretrained tokenizer's own"):
        load_config(recipe, options(unit="pretrained", path=str(tmp_path), lower=True))
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        train_quickly(recipe, options(unit="pretrained", path=str(tmp_path)), tmp_path / "run")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        train_quickly(recipe, options(unit="pretrained", path=str(tmp_path)), tmp_path / "run")


def test_the_encoder_learns_from_its_tokens(recipe: dict[str, Any], run: Run) -> None:
    """The ids and the mask reach the encoder: its parameters moved, and padding does not."""
    start = run.parts().algorithm.init(0).model
    assert any(not np.array_equal(leaf, start[name]) for name, leaf in run.params.model.items())
