"""Law 4 for a pretrained encoder with adapters; what is frozen stays, and what travels is small."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metadist
from metadist.adapter import Adapter
from metadist.algorithms import MetaAlgorithm, build_algorithm
from metadist.config import AlgorithmConfig, ModelConfig
from metadist.config.load import load_config
from metadist.config.resolve import resolve
from metadist.errors import ModelError
from metadist.models import Model, build_model, encoder, functional_model
from metadist.models.probe import probe
from metadist.objectives import classification
from metadist.parameters import MetaParams, leaves, named_leaves, tree_digest
from metadist.registry import build_bundle
from metadist.registry.flavour import requirements
from metadist.shard import batched, looped
from metadist.tasks import Task
from metadist.worker import assemble
from tests.support import bert, loops
from tests.support.draws import PROGRESS, context, one, relative, vector
from tests.support.quick import train_quickly

TASKS = 2
SOURCE = bert.Sentences(run_seed=0, evaluation_seed=0, sizes=(2, 2), fixed_sizes=(2, 2))
RULES = {"maml": "through the loop", "fomaml": "through the loop", "protonet": "prototypes", "r2d2": "ridge"}
# A key's bias changes no softmax, a shift of all embeddings no distance; unused rows of a table are not whole leaves.
DEAD = {False: (".key.bias",), True: (".key.bias", ".layer.1.output.LayerNorm.bias")}
TRAINED = {"adapters": {"rank": 2}, "head": {"train": "head"}, "all": {"train": "all"}}


def recipe(path: Path, **algorithm: Any) -> dict[str, Any]:
    return {
        "tasks": {"source": "tests.support.bert:Sentences", "shots": 2, "queries": 2},
        "model": {"name": "encoder", "options": {"path": str(path), "rank": 2}},
        "objective": {"name": "classification"},
        "algorithm": {"name": "maml", "inner_steps": 2, "inner_lr": 0.3, **algorithm},
        "outer": {"lr": 0.01, "meta_batch_size": 4, "shard_size": 2, "num_steps": 6},
        "engine": {"compile": "off"},
        "cluster": {"backend": "local"},
        "evaluation": {"every_steps": 3, "num_tasks": 4},
        "checkpoint": {"every_steps": 3},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert.write_bert(tmp_path_factory.mktemp("bert"))


def built(folder: Path, name: str, **options: Any) -> tuple[Model, MetaAlgorithm, dict[str, Any]]:
    """Model and algorithm in float64, and the resolved settings."""
    embedding = name in ("protonet", "r2d2")
    model = functional_model(
        lambda: encoder.build(SOURCE.spec, path=str(folder), embedding=embedding, **options).double(), seed=0
    )
    steps = {} if embedding else {"inner_steps": 2, "inner_lr": 0.3}
    settings = load_config({**recipe(folder), "algorithm": {"name": name, **steps}}).algorithm
    return model, build_algorithm(settings, model, classification(), SOURCE.spec), settings.model_dump()


def drawn(algorithm: MetaAlgorithm) -> tuple[MetaParams, Task]:
    """Parameters away from the start (``up`` is zero there) and tasks."""
    noise = torch.Generator().manual_seed(3)
    params = algorithm.init(0)
    for leaf in leaves(params):
        leaf += 0.3 * torch.randn(leaf.shape, generator=noise, dtype=leaf.dtype)
    return MetaParams(params.model, {name: leaf.double() for name, leaf in params.inner.items()}), SOURCE.batch(
        "train", 0, 0, TASKS
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("trained", TRAINED)
def test_equals_an_independent_autograd_loop(name: str, trained: str, folder: Path) -> None:
    if trained == "head" and name in ("protonet", "r2d2"):
        with pytest.raises(ModelError, match="every leaf of the model is frozen"):
            built(folder, name, **TRAINED[trained])
        return
    model, algorithm, settings = built(folder, name, **TRAINED[trained])
    params, tasks = drawn(algorithm)
    found, _ = batched(algorithm.meta_gradient)(params, tasks, context(TASKS))
    net = bert.formula(model.frozen, layers=2, heads=2, scale=8.0, head=name not in ("protonet", "r2d2"))
    row = loops.Problem(rule=RULES[name], settings=settings, net=net, ways=3, key=0, progress=PROGRESS)
    for index in range(TASKS):
        task = one(tasks, index)
        assert task.support is not None and task.query is not None
        halves: Any = ((task.support.x, task.support.y), (task.query.x, task.query.y))
        expected = loops.direction(row, named_leaves(params), *halves)
        mine = {leaf: value[index] for leaf, value in named_leaves(found).items()}
        assert vector(expected).norm() > 1e-3
        assert relative(vector(mine), vector(expected)) <= 1e-10
        dead = [leaf for leaf, value in mine.items() if value.norm() < 1e-12]
        assert all(leaf.endswith(DEAD[name == "protonet"]) for leaf in dead), dead


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_vmap_is_a_loop(name: str, folder: Path) -> None:
    _, algorithm, _ = built(folder, name, rank=2)
    params, tasks = drawn(algorithm)
    wide, narrow = (lift(algorithm.meta_gradient)(params, tasks, context(TASKS))[0] for lift in (batched, looped))
    assert relative(vector(wide), vector(narrow)) <= 1e-12


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "albert", "modernbert"])
def test_encoders_pass_the_probe(kind: str, tmp_path: Path) -> None:
    """Second derivatives under vmap, from a configuration alone."""
    other = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12} if kind == "distilbert" else {}
    special = {name: 1 for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}
    more = special if kind == "modernbert" else {"embedding_size": 4} if kind in ("electra", "albert") else {}
    bert.write_bert(tmp_path, weights=False, kind=kind, **other, **more)
    model = build_model(ModelConfig(name="encoder", options={"path": str(tmp_path)}), SOURCE.spec, 0)
    assert all(name.endswith((".up", ".down")) or name.startswith("head.") for name in model.names)
    probe(model, model.initial(0), SOURCE.spec, outputs=3, second_order=True, vmapped=True)


def test_it_starts_as_it_was_trained(folder: Path) -> None:
    """The features before the first step are the library's own."""
    from transformers import AutoModel

    model = build_model(ModelConfig(name="encoder", options={"path": str(folder)}), SOURCE.spec, 0, embedding=True)
    task = one(SOURCE.batch("train", 0, 0, 1), 0)
    assert task.support is not None and isinstance(task.support.x, torch.Tensor)
    ids = task.support.x.long()
    mask = (ids != bert.PADDING).long()
    assert int(mask.sum()) < mask.numel(), "no sentence is padded"
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        found, _ = model.forward(model.initial(0), task.support.x)
    expected = torch.stack([row[kept > 0].mean(0) for row, kept in zip(states, mask, strict=True)])
    assert torch.allclose(found, expected, atol=1e-6)


def test_what_is_frozen_stays_and_little_travels(folder: Path, tmp_path: Path) -> None:
    config = load_config(recipe(folder))
    source = metadist.open_tasks(config).source
    parts = assemble(config, source)
    before = tree_digest(parts.model.frozen)
    run = train_quickly(recipe(folder), {}, tmp_path / "run")
    assert tree_digest(run.parts().model.frozen) == before
    assert parts.layout.size == 2 * 2 * (2 * 8 + 8 * 2) + 3 * 8 + 3  # layers x (query, value) x (down, up), head
    assert parts.layout.size < 0.2 * sum(leaf.numel() for leaf in parts.model.frozen.values())
    resumed = train_quickly(recipe(folder), {"outer.num_steps": 3}, tmp_path / "half")
    resumed = train_quickly(recipe(folder), {}, resumed.run_dir, resume=True)
    assert resumed.summary["params_sha256"] == run.summary["params_sha256"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"path": "nowhere"}, "nowhere has no config.json"),
    "no layer": ({"match": ["*mlp*"]}, r"match \['\*mlp\*'\].*there are encoder.layer.0.attention.self.query"),
    "no rank": ({"rank": 0}, "rank 0"),
    "no such part": ({"train": "lora"}, r"train is 'lora' \(adapters, head, all\)"),
    "no such option": ({"ranks": 3}, "ranks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name: str, folder: Path) -> None:
    options, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        build_model(ModelConfig(name="encoder", options={"path": str(folder), **options}), SOURCE.spec, 0)


def test_dropout_follows_from_the_tasks_key(folder: Path) -> None:
    options = {"path": str(folder), "dropout": 0.3}
    model = build_model(ModelConfig(name="encoder", options=options), SOURCE.spec, 0)
    assert model.drops
    settings = resolve(load_config({**recipe(folder), "model": {"name": "encoder", "options": options}})).algorithm
    assert isinstance(settings, AlgorithmConfig)
    algorithm = build_algorithm(settings, model, classification(), SOURCE.spec)
    tasks, params = SOURCE.batch("train", 0, 0, TASKS), algorithm.init(0)
    first, again = (batched(algorithm.meta_gradient)(params, tasks, context(TASKS))[0] for _ in range(2))
    assert torch.equal(vector(first), vector(again))
    other, _ = batched(algorithm.meta_gradient)(params, tasks, context(TASKS)._replace(noise_key=torch.tensor([8, 9])))
    assert not torch.equal(vector(first), vector(other))


def test_a_bundle_needs_no_folder_of_the_encoder(tmp_path: Path) -> None:
    """Registered, then served where only the bundle is: the shape travels, the weights are the bundle's."""
    place = bert.write_bert(tmp_path / "bert")
    run = train_quickly(recipe(place, name="protonet"), {}, tmp_path / "run")
    bundle = build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=4)
    shutil.rmtree(place)
    adapter = Adapter(bundle)
    assert adapter.self_test() == 0.0
    task = one(SOURCE.batch("test", 0, 0, 1), 0)
    assert task.support is not None and task.query is not None
    answers = adapter.adapt(task.support.x, np.array(["a", "a", "b", "b", "c", "c"])).predict(task.query.x)
    assert set(answers) <= {"a", "b", "c"} and len(answers) == 6
    assert any(name.startswith("transformers==") for name in requirements(bundle))
