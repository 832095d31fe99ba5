"""Recipes, overrides, messages about mistakes, and what the fingerprint sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from metadist.config import RunConfig
from metadist.config.fingerprint import fingerprint, flat, numbers_of
from metadist.config.load import dump, load_config, parse_overrides
from metadist.config.recipes import recipe_names, recipe_text
from metadist.config.resolve import resolve
from metadist.config.schema import recipe_schema
from metadist.config.strict_yaml import parsed
from metadist.errors import ConfigError
from tests.support.quick import IMAGE_RUN, SMALL_RUN


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"outer.learning_rate": 1}, ["outer.learning_rate", "no such key", "lr"]),
        ({"outer.meta_batchsize": 1}, ["did you mean 'meta_batch_size'"]),
        ({"algoritm.name": "maml"}, ["algoritm", "did you mean 'algorithm'"]),
        ({"outer.schedule.nam": "cosine"}, ["outer.schedule.nam", "did you mean 'name'"]),
        ({"outer.lr": "fast"}, ["outer.lr", "'fast'"]),
        ({"outer.lr": -1}, ["outer.lr", "greater than 0", "-1"]),
        ({"algorithm.inner_steps": -1}, ["algorithm.inner_steps", "-1"]),
        ({"outer.meta_batch_size": 6, "outer.shard_size": 4}, ["6 is not a multiple", "4", "1, 2, 3, 6"]),
        ({"model.factory": "a:b"}, ["exactly one of model.name and model.factory"]),
        ({"objective.name": "classification"}, ["classification does not fit tasks.kind parameters"]),
        ({"algorithm.name": "protonet"}, ["protonet classifies"]),
        ({"evaluation.metric": "accuracy"}, ["evaluation.metric accuracy", "mse, loss"]),
        ({"tasks.source": "parquet"}, ["tasks.path"]),
        ({"seed.x": 1}, ["seed"]),
        ({"model.name": "conv5"}, ["model.name: 'conv5' is not known; did you mean 'conv4'? (known: mlp"]),
        ({"outer": 5}, ["outer: is a section of keys, {key: value} (got 5)"]),
        ({"outer.num_steps": "many"}, ["outer.num_steps: needs a whole number (got 'many')"]),
        ({"cluster.num_workers": "many"}, ["cluster.num_workers: needs a whole number, or auto (got 'many')"]),
        ({"outer.num_steps": True}, ["outer.num_steps: needs a number, not true or false (got True)"]),
        ({"algorithm.inner_optimizer.betas": [True, 0.9]}, ["betas: needs a number, not true or false"]),
        ({"outer.lr": float("inf")}, ["outer.lr: needs a finite number (got inf)"]),
        ({"algorithm.inner_lr": float("nan")}, ["algorithm.inner_lr: needs a finite number (got nan)"]),
        (
            {"cluster.gpus_per_worker": -1},
            ["gpus_per_worker: must be greater than or equal to 0, or auto (got -1)"],
        ),
        ({"seed": -1}, ["seed: must be greater than or equal to 0 (got -1)"]),
        ({"seed": 2**63}, ["seed: must be less than or equal to 9223372036854775807"]),
        ({"tasks.shapes": [{"wayss": 3}]}, ["tasks.shapes.0.wayss: there is no such key; did you mean 'ways'?"]),
        ({"tasks.support": [3]}, ["tasks.support.1: a value is missing from this list"]),
    ],
)
def test_mistakes_are_told_with_the_cure(overrides: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config({**SMALL_RUN, "seed": 1}, overrides)
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(SMALL_RUN, {"outer.lr": -1, "outer.nonsense": 1})
    assert "outer.lr" in str(raised.value) and "outer.nonsense" in str(raised.value)


def test_overrides_are_yaml() -> None:
    options = ["outer.lr=1e-3", "tasks.path=omniglot", "algorithm.adapt=[head.*, body.0.*]", "outer.clip_norm=null"]
    assert parse_overrides(options) == {
        "outer.lr": 0.001,
        "tasks.path": "omniglot",
        "algorithm.adapt": ["head.*", "body.0.*"],
        "outer.clip_norm": None,
    }
    assert parse_overrides(["outer={lr: 1e-3, schedule: {name: cosine}}", "model.options={}"]) == {
        "outer.lr": 0.001,
        "outer.schedule.name": "cosine",
        "model.options": {},
    }
    for wrong in ("outer.lr", "=3", "a=[1", "a={b: 1, b: 2}"):
        with pytest.raises(ConfigError, match="--set"):
            parse_overrides([wrong])


def test_extends_merges_sections_and_knows_circles(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**SMALL_RUN, "description": "base"}))
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nouter: {lr: 5e-2}\n")
    config = load_config(tmp_path / "child.yaml")
    assert config.outer.lr == 0.05
    assert config.outer.meta_batch_size == SMALL_RUN["outer"]["meta_batch_size"]
    (tmp_path / "a.yaml").write_text(f"extends: {tmp_path}/b.yaml\n")
    (tmp_path / "b.yaml").write_text(f"extends: {tmp_path}/a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml|circle"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="did you mean 'sinusoid'"):
        recipe_text("sinusoids")


NO_RECIPES = {
    "extends a number": ("extends: 5\n", "extends: needs one recipe's name or YAML file (got 5)"),
    "extends a list": ("extends: [sinusoid, glyphs]\n", "extends: needs one recipe's name or YAML file"),
    "extends itself by another path": ("extends: ../here/bad.yaml\n", "in a circle"),
    "a key twice": (
        "outer:\n  lr: 1\n  num_steps: 5\n  lr: 2\n",
        "the key 'lr' is there twice, in line 2 and in line 4",
    ),
    "not UTF-8": (b"description: caf\xe9\n", "not UTF-8 text (byte 0xe9 at position 16)"),
    "no YAML": ("outer: [1\n", "not YAML"),
    "no date": (
        "description: 2024-02-30\n",
        "a value cannot be read (day is out of range for month); put it in quotes",
    ),
    "a list": ("- 1\n", "a recipe is a mapping of sections, not list"),
    "contains itself": ("outer: &here\n  options: *here\n", "contains itself"),
}


@pytest.mark.parametrize("case", NO_RECIPES)
def test_a_file_that_is_no_recipe(case: str, tmp_path: Path) -> None:
    text, words = NO_RECIPES[case]
    path = tmp_path / "here" / "bad.yaml"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert words in str(raised.value) and str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match=r"/proc/self/mem: cannot be read: Input/output error"):
        load_config("/proc/self/mem")
    with pytest.raises(ConfigError, match=r"/tmp/: cannot be read: Is a directory"):
        load_config("/tmp/")


def test_a_file_without_a_slash_is_not_taken_for_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noext").write_text("")
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no recipe 'noext', but a file of that name is here: write \./noext"):
        load_config("noext")
    with pytest.raises(ConfigError, match=r"write \./mine\.yaml"):
        load_config("mine")
    with pytest.raises(ConfigError, match=r"'sinusoid'\? \(`metadist recipes` lists them\)$"):
        load_config("sinusoids")


def test_an_empty_section_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**SMALL_RUN, "outer": None, "evaluation": {"every_steps": 5}}))
    config = load_config(tmp_path / "a.yaml", {"algorithm.inner_optimizer": None, "model.options": None})
    assert config.outer.lr == 0.001 and config.algorithm.inner_optimizer.name == "sgd" and config.model.options == {}
    replaced = parse_overrides(["model.options=", "model.options.hidden=[4]"])
    assert load_config(SMALL_RUN, replaced).model.options == {"hidden": [4]}


@pytest.mark.parametrize(("written", "meant"), [("off", "off"), ("on", "on"), ("auto", "off"), ('"on"', "on")])
def test_on_and_off_are_no_booleans_where_they_are_words(written: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"extends: sinusoid\nengine: {{compile: {written}}}\n")
    assert load_config(tmp_path / "a.yaml").engine.compile == meant
    assert load_config(SMALL_RUN, parse_overrides([f"engine.compile={written}"])).engine.compile == meant


def test_the_schema_for_editors_takes_every_shipped_recipe() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    judge = jsonschema.Draft202012Validator(schema)
    for name in recipe_names():
        assert not list(judge.iter_errors(parsed(recipe_text(name), name))), name
    taken = "extends: sinusoid\nouter:\ntasks: {order: time}\nengine: {compile: off}\ntracking: {required: true}\n"
    assert judge.is_valid(parsed(taken, "")) and schema["$schema"]
    for refused in ("extends: 5", "outer: {lr: -1}", "outer: {nun_steps: 1}", "tasks: {order: tim}"):
        assert not judge.is_valid(parsed(refused, "")), refused


def test_resolving_is_idempotent_and_complete() -> None:
    config = load_config(SMALL_RUN)
    assert resolve(config) == config
    assert RunConfig.model_validate(yaml.safe_load(dump(config))) == config
    resolved = ("outer.shard_size", "engine.chunk_size", "evaluation.metric", "evaluation.inner_steps")
    assert all(flat(config)[key] is not None for key in resolved)
    assert config.engine.compile in ("on", "off") and config.algorithm.gradient == "unroll"


def test_overrides_count_for_a_configuration_too() -> None:
    config = load_config(SMALL_RUN)
    assert load_config(config) == config
    assert load_config(config, {"outer.lr": 0.5}) == load_config(SMALL_RUN, {"outer.lr": 0.5}) != config
    same_name = {"algorithm.name": config.algorithm.name}
    assert load_config(config, same_name) == config
    assert load_config(config, {"algorithm": {"name": "r2d2"}}).algorithm.name == "r2d2"
    with pytest.raises(
        ConfigError, match=r"algorithm.name: 'maml' has set its switches .* so that 'maml\+\+' would not"
    ):
        load_config(config, {"algorithm.name": "maml++"})


@pytest.mark.parametrize(
    "overrides",
    [
        {"cluster.num_workers": 7},
        {"cluster.backend": "ray", "cluster.address": "somewhere:6379"},
        {"checkpoint.keep": 9},
        {"tracking.experiment": "other"},
        {"description": "other words"},
        {"outer.num_steps": 99},
    ],
)
def test_the_fingerprint_does_not_see_places(overrides: dict[str, Any]) -> None:
    assert fingerprint(numbers_of(load_config(SMALL_RUN, overrides))) == fingerprint(numbers_of(load_config(SMALL_RUN)))


@pytest.mark.parametrize(
    "overrides",
    [
        {"seed": 1},
        {"outer.lr": 0.02},
        {"outer.shard_size": 3},
        {"outer.schedule": {"name": "cosine"}},
        {"engine.chunk_size": 1},
        {"engine.tasks_axis": "loop"},
        {"algorithm.normalisation": "transductive"},
        {"model.freeze": ["body.*"]},
        {"tasks.queries": 6},
        {"evaluation.seed": 3},
    ],
)
def test_the_fingerprint_sees_every_number(overrides: dict[str, Any]) -> None:
    assert fingerprint(numbers_of(load_config(SMALL_RUN, overrides))) != fingerprint(numbers_of(load_config(SMALL_RUN)))


@pytest.mark.parametrize(
    "spread",
    [
        {"outer.schedule": {"name": "cosine"}},
        {"algorithm.multi_step": 0.5, "algorithm.inner_steps": 2},
        {"algorithm.second_order_from": 0.5},
    ],
)
def test_what_is_spread_over_the_run_puts_its_length_into_the_fingerprint(spread: dict[str, Any]) -> None:
    one, two = (numbers_of(load_config(SMALL_RUN, {**spread, "outer.num_steps": steps})) for steps in (10, 20))
    assert fingerprint(one) != fingerprint(two)


@pytest.mark.parametrize(
    "changed",
    [
        {"tasks.shots": 7, "tasks.queries": 3},
        {"algorithm.inner_steps": 7},
        {"outer.meta_batch_size": 4},
        {"evaluation.num_tasks": 9},
        {"evaluation.metric": "loss"},
        {"evaluation.shots": 3, "tasks.shots": 7},
    ],
)
def test_what_follows_from_an_override_follows_in_a_configuration_too(changed: dict[str, Any]) -> None:
    assert load_config(load_config(SMALL_RUN), changed) == load_config(SMALL_RUN, changed)
    assert load_config(load_config(SMALL_RUN, {"evaluation.inner_steps": 3}), changed).evaluation.inner_steps == 3


def test_every_shipped_recipe_loads_and_says_what_it_is() -> None:
    assert {"glyphs", "sinusoid", "omniglot-5w1s", "omniglot-5w1s-quick"} <= set(recipe_names())
    for name in recipe_names():
        assert load_config(name).description


def test_paper_recipes_carry_the_inner_rate_of_a_mean_loss() -> None:
    """The paper's loss sums over classes: its 0.4 at 5 ways and 0.1 at 20 ways are both 2.0 here."""
    for name in ("omniglot-5w1s", "omniglot-5w5s", "omniglot-20w1s", "omniglot-20w5s"):
        config = load_config(name)
        assert config.algorithm.inner_lr == pytest.approx({5: 0.4, 20: 0.1}[config.tasks.ways] * config.tasks.ways)
        assert config.algorithm.normalisation == "transductive" and config.tasks.rotations


def test_a_mapping_is_not_changed_by_loading() -> None:
    before = repr(IMAGE_RUN)
    load_config(IMAGE_RUN, {"outer.lr": 0.5, "model.options": {"filters": 2}})
    assert repr(IMAGE_RUN) == before
