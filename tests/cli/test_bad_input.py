"""Bad input: each with one clear line, the documented exit code, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

import metadist
from tasks_store import load_manifest, write_store
from tests.cli.tiny import FEATURES, RECIPE, Call, store_rows

CONFIG_ERRORS = {
    "misspelt key": (["outer.nun_steps=3"], "outer.nun_steps: there is no such key; did you mean 'num_steps'?"),
    "unknown section": (["outter.lr=3"], "did you mean 'outer'?"),
    "wrong type": (["outer.num_steps=many"], "outer.num_steps"),
    "out of range": (["outer.lr=-1"], "outer.lr: must be greater than 0 (got -1)"),
    "shard size": (["outer.shard_size=3"], "a shard_size that fits: 1, 2, 4"),
    "not a set": (["outer.lr"], "is not of the form a.b=value"),
    "factory module": (["model.name=null", "model.factory=nowhere:build"], "cannot be imported: No module named"),
    "factory form": (["model.name=null", "model.factory=nowhere"], "is not of the form 'package.module:function'"),
    "model option": (["model.options={wide: 3}"], "wide"),
    "both models": (["model.factory=a:b"], "exactly one of model.name and model.factory"),
    "freeze pattern": (["model.freeze=[nothing.*]"], "matches no leaf; the leaves are body.0.weight"),
    "adapt pattern": (["algorithm.adapt=[tail.*]"], "matches none of the meta-learned leaves"),
    "metric": (["evaluation.metric=mse"], "is not measured by objective classification"),
    "optimizer option": (["outer.options={speed: 3}"], "outer.optimizer adam with outer.options"),
}


@pytest.mark.parametrize("case", CONFIG_ERRORS)
def test_a_configuration_that_cannot_be_carried_out(call: Call, workplace: Path, case: str) -> None:
    settings, message = CONFIG_ERRORS[case]
    options = [part for setting in settings for part in ("--set", setting)]
    answer = call("train", "tiny.yaml", "--run-dir", "run", *options)
    assert answer.code == 78
    assert message in answer.error
    assert not (workplace / "run" / "fingerprint.json").exists()


def test_unknown_recipe_and_missing_file(call: Call) -> None:
    answer = call("train", "omniglot-5w1")
    assert answer.code == 78 and "did you mean 'omniglot-5w1s'?" in answer.error
    assert call("train", "no/such.yaml").code == 78


MODELS = {
    "running statistics": (
        "nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, spec.outputs))",
        "keeps running batch statistics",
    ),
    "wrong width": ("nn.Linear(5, spec.outputs + 1)", "outputs have shape (3, 4) on 3 inputs; the tasks need (3, 3)"),
    "nan": ("Bad(spec, lambda y: y / 0 - y / 0)", "returns NaN or infinity"),
    "not vmappable": ("Bad(spec, lambda y: y * (2 if y.sum().item() > 0 else 1))", "engine.tasks_axis: loop"),
    "not a module": ("3", "returned int, not a torch.nn.Module"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_meta_trained(call: Call, workplace: Path, case: str) -> None:
    expression, message = MODELS[case]
    name = f"net_{case.replace(' ', '_')}"
    (workplace / f"{name}.py").write_text(
        "from torch import nn\n"
        "class Bad(nn.Module):\n"
        "    def __init__(self, spec, spoil):\n"
        "        super().__init__(); self.inner = nn.Linear(5, spec.outputs); self.spoil = spoil\n"
        "    def forward(self, x):\n"
        "        return self.spoil(self.inner(x))\n"
        f"def build(spec):\n    return {expression}\n"
    )
    recipe = {**RECIPE, "model": {"factory": f"{name}:build"}}
    (workplace / "own.yaml").write_text(yaml.safe_dump(recipe))
    answer = call("train", "own.yaml", "--run-dir", "run")
    assert answer.code == 78
    assert message in answer.error


DATA_ERRORS = {
    "ways": (["tasks.ways=40"], "40"),
    "shots": (["tasks.shots=6"], "9"),
    "no such store": (["tasks.path=./nowhere"], "nowhere"),
    "named store": (["tasks.path=omniglot"], "metadist tasks import omniglot"),
}


@pytest.mark.parametrize("case", DATA_ERRORS)
def test_data_that_cannot_be_used_as_asked(call: Call, case: str) -> None:
    settings, message = DATA_ERRORS[case]
    options = [part for setting in settings for part in ("--set", setting)]
    answer = call("train", "tiny.yaml", "--run-dir", "run", *options)
    assert answer.code == 65
    assert message in answer.error


def _data_file(store: Path, split: str) -> Path:
    return store / next(file.path for file in load_manifest(store).files if file.split == split)


def test_a_flipped_byte_names_the_file_and_the_row_group(call: Call, workplace: Path) -> None:
    file = _data_file(workplace / "store", "train")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    answer = call("train", "tiny.yaml", "--run-dir", "run")
    assert answer.code == 65
    assert file.name in answer.error and "row group" in answer.error
    assert call("tasks", "verify", "./store").code == 65


def test_a_truncated_file(call: Call, workplace: Path) -> None:
    file = _data_file(workplace / "store", "train")
    file.write_bytes(file.read_bytes()[:-40])
    answer = call("train", "tiny.yaml", "--run-dir", "run")
    assert answer.code == 65 and file.name in answer.error


def test_an_empty_folder_is_no_store(call: Call, workplace: Path) -> None:
    shutil.rmtree(workplace / "store")
    (workplace / "store").mkdir()
    assert call("train", "tiny.yaml", "--run-dir", "run").code == 65


def test_a_manifest_of_a_newer_format(call: Call, workplace: Path) -> None:
    manifest = workplace / "store" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
    answer = call("tasks", "inspect", "./store")
    assert answer.code == 65 and "99" in answer.error


def test_a_store_without_a_validation_split(call: Call, workplace: Path) -> None:
    rows = [row for row in store_rows() if row["split"] == "train"]
    write_store(rows, workplace / "half", name="half", kind="classes", columns=FEATURES)
    answer = call("train", "tiny.yaml", "--run-dir", "run", "--set", "tasks.path=./half")
    assert answer.code == 65 and "no split 'validation'; it has train" in answer.error


def test_gradients_that_are_not_finite_name_the_tasks_and_change_nothing(call: Call, workplace: Path) -> None:
    options = ("--set", "algorithm.inner_lr=1.0e+38", "--set", "algorithm.inner_steps=4")
    answer = call("train", "tiny.yaml", "--run-dir", "run", *options)
    assert answer.code == 65
    assert "is not finite at step 0" in answer.error and "train/0/" in answer.error
    assert "metadist replay" in answer.error
    assert not (workplace / "run" / "checkpoints").exists()


def test_no_tracking_server_where_one_is_required(call: Call) -> None:
    where = ("--set", "tracking.uri=http://127.0.0.1:9", "--set", "tracking.required=true")
    answer = call("train", "tiny.yaml", "--run-dir", "run", *where)
    assert answer.code == 69 and "http://127.0.0.1:9" in answer.error


def test_no_tracking_server_loses_nothing(call: Call, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metadist.run.DRAIN_S", 0.5)
    where = ("--set", "tracking.uri=http://127.0.0.1:9")
    answer = call("train", "tiny.yaml", "--run-dir", "run", "--json", *where)
    assert answer.code == 76
    assert answer.json["steps"] == 6 and "metadist sync" in answer.err
    assert (workplace / "run" / "journal.jsonl").stat().st_size > 0


def test_a_used_run_folder(call: Call) -> None:
    assert call("train", "tiny.yaml", "--run-dir", "run").code == 0
    again = call("train", "tiny.yaml", "--run-dir", "run")
    assert again.code == 78 and "--resume continues it" in again.error
    other = call("train", "tiny.yaml", "--run-dir", "run", "--set", "outer.lr=0.5")
    assert other.code == 78 and "outer.lr: 0.01 -> 0.5" in other.error
    resumed = call("train", "tiny.yaml", "--run-dir", "run", "--resume", "--set", "outer.lr=0.5")
    assert resumed.code == 78 and "outer.lr: 0.01 -> 0.5" in resumed.error


@pytest.mark.parametrize(("place", "code"), [("tiny.yaml", 2), ("tiny.yaml/run", 2), ("/proc/x", 69), ("/sys/foo", 69)])
def test_a_run_folder_that_cannot_be_made(call: Call, place: str, code: int) -> None:
    answer = call("train", "tiny.yaml", "--run-dir", place)
    assert answer.code == code and place in answer.error and "saved before" not in answer.error
    assert ("is a file" if code == 2 else "nothing was begun") in answer.error


def test_a_file_that_the_user_named_and_that_is_away_is_one_line(
    call: Call, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, number: int) -> None:
        raise OSError(number, os.strerror(number), path)

    for number, code in ((errno.ENOENT, 65), (errno.ENOSPC, 69)):
        monkeypatch.setattr("metadist.config.recipes.recipe_names", lambda number=number: fail("mine.csv", number))
        answer = call("recipes")
        assert answer.code == code and answer.error.startswith("cannot read or write mine.csv: ")
    monkeypatch.setattr("metadist.config.recipes.recipe_names", lambda: fail(metadist.__file__, errno.ENOENT))
    assert call("recipes").code == 70, "a file of ours is our bug"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "tiny.yaml", "--fast"], "No such option: --fast"),
        (["train", "tiny.yaml", "--json", "--fast"], "No such option: --fast"),
        (["train"], "Missing argument 'recipe'"),
        (["replay", "run", "--step", "x", "--shard", "0"], "'--step'"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(call: Call, arguments: list[str], words: str) -> None:
    answer = call(*arguments)
    assert answer.code == 2 and answer.out == "" and answer.err.count("\n") == 1
    assert words.lower() in answer.error.lower() and "--help` says what there is" in answer.error


def test_help_and_version_are_no_mistakes(call: Call) -> None:
    assert call("--help").code == call("--version").code == call("train", "--help").code == 0
    nothing = call()
    assert nothing.code == 2 and "Usage:" in nothing.out + nothing.err and "error:" not in nothing.err


TABLE = ["tasks", "import", "table", "--from", "a.csv", "--value", "x"]
USAGE = {
    "not a run folder": (["evaluate", "nowhere"], 65),
    "no such split": (["evaluate", "run", "--split", "holdout"], 2),
    "no such checkpoint": (["evaluate", "run", "--checkpoint", "5"], 2),
    "too large a shard": (["replay", "run", "--step", "1", "--shard", "9"], 2),
    "unknown option": (["train", "tiny.yaml", "--fast"], 2),
    "unknown command": (["fly"], 2),
    "both sources": (["tasks", "import", "omniglot"], 2),
    "no label and no target": (
        [*TABLE, "--split", "0.7,0.1,0.2"],
        2,
    ),
    "no split": ([*TABLE, "--label", "y"], 2),
    "shares of 0.9": (
        [*TABLE, "--label", "y", "--split", "0.7,0.1,0.1"],
        2,
    ),
    "no size": (["tasks", "import", "images", "--from", ".", "--size", "0"], 2),
    "large size": (["tasks", "import", "images", "--from", ".", "--size", "100000", "--out", "o"], 2),
    "one file twice": ([*TABLE, "--from", "./a.csv", "--label", "y", "--split", "1,0,0", "--out", "o"], 2),
    "no such source": (["tasks", "import", "omniglot", "--from", "nowhere", "--out", "here"], 65),
}


@pytest.mark.parametrize("case", USAGE)
def test_commands_called_wrongly(call: Call, case: str) -> None:
    arguments, code = USAGE[case]
    if "run" in arguments:
        assert call("train", "tiny.yaml", "--run-dir", "run").code == 0
    answer = call(*arguments)
    assert answer.code == code
    assert "Traceback" not in answer.err


IMPORT = ["tasks", "import", "table", "--from", "a.csv", "--label", "label", "--value", "x", "--split", "1,0,0"]
PLACES = {
    "import to a file": ([*IMPORT, "--out", "a.csv"], 65, "a.csv is a file; choose a folder"),
    "import below a file": ([*IMPORT, "--out", "a.csv/s"], 69, "the operating system refused"),
    "import to a place without writing": (
        [*IMPORT, "--out", "/proc/none"],
        69,
        "the operating system refused /proc/none",
    ),
    "export to a file": (["tasks", "export", "./store", "--hf", "a.csv"], 65, "a.csv is a file; choose a folder"),
    "export without writing": (["tasks", "export", "./store", "--hf", "/proc/none"], 69, "refused /proc/none"),
    "build to a file": (["tasks", "build", "customers", "--out", "a.csv"], 65, "a.csv is a file; choose a folder"),
    "pictures without writing": (
        ["tasks", "import", "images", "--from", "pictures", "--size", "4", "--split", "1,0,0", "--out", "/proc/none"],
        69,
        "refused /proc/none",
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_that_take_no_result(call: Call, workplace: Path, case: str) -> None:
    arguments, code, message = PLACES[case]
    (workplace / "a.csv").write_text("x,label\n1,a\n2,a\n")
    for number in range(2):
        (workplace / "pictures" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(workplace / "pictures" / "a" / f"{number}.png")
    answer = call(*arguments)
    assert answer.code == code and message in answer.error
