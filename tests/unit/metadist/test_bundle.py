"""A bundle is whole or refused, the same run gives the same bundle, and a model that leans on company is not made."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from metadist import Run, load_adapter, load_config
from metadist.errors import DataError, GateRefused
from metadist.registry import build_bundle
from metadist.registry.build import _pack_encoder
from metadist.registry.code import served_code
from metadist.registry.report import check_one_query
from metadist.serving.bundle import Bundle, read_bundle
from tests.support.quick import NoMirror
from tests.support.toys import image_run

FACTORY = """
from torch import nn

def build(spec, width=8):
    inputs = 1
    for size in spec.input_shape:
        inputs *= size
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, spec.outputs))
"""


@pytest.fixture(scope="module")
def unmirrored() -> Iterator[None]:
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, unmirrored: None) -> Run:
    return image_run(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    return build_bundle(run.run_dir, run.checkpoint("best"))


def test_the_same_run_gives_the_same_bundle(run: Run, bundle: Bundle) -> None:
    shutil.copytree(bundle.folder, aside := bundle.folder.with_name("aside"))
    heard: list[str] = []
    assert build_bundle(run.run_dir, run.checkpoint("best"), on_message=heard.append).id == bundle.id
    assert "bundled before" in heard[0]
    shutil.rmtree(bundle.folder)
    assert build_bundle(run.run_dir, run.checkpoint("best")).id == bundle.id == read_bundle(aside).id


def test_another_checkpoint_is_another_bundle(run: Run, bundle: Bundle) -> None:
    other = build_bundle(run.run_dir, run.checkpoint(2), num_tasks=2)
    assert other.id != bundle.id and other.facts["step"] == 2 and other.report["num_tasks"] == 2


def test_it_holds_what_it_promises(run: Run, bundle: Bundle) -> None:
    names = {"weights.safetensors", "report.json", "tasks.npz", "selftest.npz"}
    assert set(bundle.facts["files"]) == names
    assert bundle.facts["params_sha256"] == run.checkpoint("best").state.params_sha256
    assert bundle.facts["input"] == {"name": "image", "dtype": "uint8", "shape": [12, 12]}
    assert bundle.config == run.config
    assert {"config", "store", "numerics", "code"} == set(bundle.facts["fingerprints"])
    assert "one_query_at_a_time" in bundle.report


@pytest.mark.parametrize("name", ["weights.safetensors", "report.json", "selftest.npz"])
def test_a_flipped_byte_is_found(bundle: Bundle, tmp_path: Path, name: str) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(bundle.folder, copied)
    blob = bytearray((copied / name).read_bytes())
    blob[len(blob) // 2] ^= 1
    (copied / name).write_bytes(blob)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        load_adapter(copied)
    (copied / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        load_adapter(copied)


def test_a_newer_format_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(bundle.folder, copied)
    facts = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**facts, "format_version": 2}))
    with pytest.raises(DataError, match=r"bundle format 2.*upgrade metadist"):
        load_adapter(copied)
    tree = {**facts, "config": {**facts["config"], "from_the_future": 1}}
    (copied / "bundle.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"made by metadist .* cannot read"):
        load_adapter(copied)


def test_a_crash_leaves_no_bundle(run: Run) -> None:
    with (
        mock.patch("metadist.registry.build.save_report", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        build_bundle(run.run_dir, run.checkpoint("best"), num_tasks=3)
    assert not [path for path in (run.run_dir / "bundles").iterdir() if path.name.startswith(".")]


def test_a_transductive_model_is_refused(tmp_path: Path, unmirrored: None) -> None:
    """A Conv4 with stride to one pixel has nothing but the other queries to normalise by."""
    run = image_run(tmp_path, {"algorithm.normalisation": "transductive", "outer.num_steps": 20})
    with pytest.raises(
        GateRefused, match=r"one query at a time.*normalisation: inductive.*--allow-transductive"
    ) as caught:
        build_bundle(run.run_dir, run.checkpoint("last"))
    assert caught.value.exit_code == 65
    allowed = build_bundle(run.run_dir, run.checkpoint("last"), allow_transductive=True)
    found = allowed.report["one_query"]
    figures = [found[way]["accuracy"] for way in ("in_one_pass", "alone")]
    assert figures[0] - figures[1] > 0.02
    assert all(f"{figure:.1%}" in str(caught.value) for figure in figures)
    assert allowed.report["one_query_at_a_time"]["accuracy"] == pytest.approx(figures[1])


@pytest.mark.parametrize(("alone", "refused"), [(0.88, False), (0.8799, True), (0.95, False)])
def test_two_points_are_the_limit(alone: float, refused: bool) -> None:
    report = {
        "num_tasks": 600,
        "split": "test",
        "normalisation": "transductive",
        "one_query": {"in_one_pass": {"accuracy": 0.90}, "alone": {"accuracy": alone}},
    }
    if not refused:
        check_one_query(report)
        return
    with pytest.raises(GateRefused, match=r"90\.0%.*88\.0%"):
        check_one_query(report)


def test_a_factory_travels_with_its_source(tmp_path: Path, unmirrored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "toy_factory_of_a_user"
    source = tmp_path / "mine" / f"{module}.py"
    source.parent.mkdir()
    source.write_text(FACTORY)
    monkeypatch.syspath_prepend(str(source.parent))
    model = {"model.name": None, "model.factory": f"{module}:build", "model.options": {}}
    run = image_run(tmp_path, model)
    bundle = build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=2)
    source.write_text(FACTORY.replace("Tanh", "ReLU"))
    with pytest.raises(DataError, match="not the source that this model was"):
        load_adapter(bundle.folder)
    source.unlink()
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(source.parent)])
    assert load_adapter(bundle.folder).self_test() == 0.0
    monkeypatch.delitem(sys.modules, module)


def test_the_code_that_travels_is_only_what_serving_needs() -> None:
    modules = served_code().modules
    assert "metadist.adapter" in modules and "metadist.models.conv4" in modules
    assert not {name for name in modules if name.split(".")[1] in ("run", "worker", "shard", "tracking", "commands")}
    assert "metadist.sources" not in modules  # its own module would bring Parquet along
    assert served_code().package == f"metadist_{served_code().digest[:8]}"


def test_an_encoder_by_name_is_found_where_training_found_it(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "encoders" / "tiny").mkdir(parents=True)
    (tmp_path / "home" / "encoders" / "tiny" / "config.json").write_text("{}")
    config = load_config("banking77-20w1s", {"model.options.path": "tiny"})
    _pack_encoder(tmp_path, config)
    assert (tmp_path / "encoder" / "config.json").read_text() == "{}"
