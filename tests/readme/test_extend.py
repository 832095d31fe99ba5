"""The examples of docs/extend.md are run as they stand: trained, judged, registered, adapted, with one's own code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import metadist
from metadist.checkpoint import load_checkpoint, steps
from metadist.cli import app
from metadist.errors import DataError, FingerprintMismatch
from metadist.folder.run_folder import read_config
from metadist.parameters import named_leaves
from metadist.registry import build_bundle
from metadist.registry.code import served_code
from tests.support.documents import document
from tests.support.quick import all_workers_at_the_start, happened

PAGE = document("extend.md")
EXAMPLES = ["net", "means", "huber", "profiles", "lines"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every file of the document in one folder, which nothing but ``code_path`` makes importable."""
    place = tmp_path_factory.mktemp("extend")
    with pytest.MonkeyPatch.context() as patch:
        PAGE.lay_out(place, patch)
        yield place
    for name in PAGE.files:
        sys.modules.pop(Path(name).stem, None)


def run_commands(name: str) -> None:
    """Train, evaluate, register: the commands of an example, as the document has them."""
    own = PAGE.about(f"runs/{name}")
    assert [command[0] for command in own] == ["train", "evaluate", "register"]
    if name == "means":
        own[0] += ["--set", "cluster.cpus_per_worker=0.5", "--set", "cluster.gpus_per_worker=0"]
        own[1] += ["--set", "cluster.backend=local"]
    for command in own:
        app(command, standalone_mode=False)


def leaves_of(run_dir: Path) -> dict[str, np.ndarray]:
    saved = load_checkpoint(run_dir, steps(run_dir)[-1])
    return {name: leaf.numpy() for name, leaf in named_leaves(saved.meta).items()}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session", "few_glyphs")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_trained_judged_registered_and_adapts(name: str, folder: Path) -> None:
    with all_workers_at_the_start():
        run_commands(name)
    run_dir = folder / "runs" / name
    adapter = metadist.load_adapter(f"models:/{name}@candidate")
    assert adapter.self_test() == 0.0
    kept = {path.name for path in (adapter.bundle.folder / "user_code").glob("*.py")}
    report, leaves = adapter.bundle.report, leaves_of(run_dir)
    if name == "net":
        assert kept == {"my_net.py"} and leaves["model.0.weight"].shape == (24, 1)
    if name == "means":
        assert kept == {"my_algorithm.py"}
        learned = leaves["inner.log_temperature"]
        assert learned.shape == () and 0 < abs(learned - np.log(0.5)) < 0.1
        assert len({event["pid"] for event in happened(run_dir, "worker_started")}) == 2
    if name == "huber":
        assert kept == {"my_objective.py"}
        best = load_checkpoint(run_dir, steps(run_dir)[-1]).state.best
        values = [row["validation/close"] for row in metadist.load_run(run_dir).metrics() if "validation/close" in row]
        assert len(values) == 2 and best is not None and (best.metric, best.value) == ("close", max(values))
        assert list(report["one_query_at_a_time"])[:2] == ["close", "ci95"]
        assert {"error", "close", "loss"} <= set(report["one_query_at_a_time"])
    if name == "profiles":
        assert (
            kept == {"my_transform.py"} and adapter.columns.chain.states[0]["usual"].shape == adapter.bundle.input.shape
        )
        assert adapter.bundle.spec.input_shape == (sum(adapter.bundle.input.shape),)
    if name == "lines":
        assert kept == set() and adapter.bundle.facts["fingerprints"]["store"] == "noisy lines"
        line = adapter.adapt(np.zeros((5, 1), np.float32), np.zeros(5, np.float32)).predict([[0.5]])
        assert line.shape == (1,)


@pytest.mark.slow
def test_a_served_model_needs_no_metadist_beside_its_own(folder: Path, tmp_path: Path, few_glyphs: str) -> None:
    """In a process that finds the travelling package only; the user's code imports ``metadist``."""
    run = metadist.train(
        "means.yaml", set={"cluster.backend": "local", "outer.num_steps": 1}, run_dir=folder / "served"
    )
    bundle = build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3)
    code = served_code()
    code.write(tmp_path)
    program = f"""
import importlib.util, json, sys
from pathlib import Path
sys.path = [place for place in sys.path if not (Path(place) / "metadist").is_dir()]  # where it is installed for editing
assert importlib.util.find_spec("metadist") is None
from {code.package}.adapter import load_adapter
adapter = load_adapter({str(bundle.folder)!r})
print(json.dumps([adapter.self_test(), adapter.algorithm.init.__module__]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0.0, "my_algorithm"]


def test_other_code_is_not_gone_on_with(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume names the file, a registration, too; accepted, the run says so; the old source gives the same bits."""
    place = tmp_path / "other"
    place.mkdir()
    for name in ("my_net.py", "net.yaml"):
        shutil.copy(folder / name, place / name.replace("my_net", "my_other_net"))
    recipe, source = place / "net.yaml", place / "my_other_net.py"
    recipe.write_text(recipe.read_text().replace("my_net", "my_other_net"))
    local = {"checkpoint.every_steps": 3, "evaluation.every_steps": 3}
    whole = metadist.train(str(recipe), set=local, run_dir=tmp_path / "whole")
    half = metadist.train(str(recipe), set={**local, "outer.num_steps": 3}, run_dir=tmp_path / "run")
    assert read_config(half.run_dir).code_path == (str(place), str(folder))
    before = source.read_text()
    source.write_text(before + "\n# an afterthought\n")
    with pytest.raises(FingerprintMismatch, match=r"code.my_other_net.py: .*--accept code.my_other_net.py"):
        metadist.train(str(recipe), set=local, run_dir=half.run_dir, resume=True)
    with pytest.raises(DataError, match=r"my_other_net.py changed since .* was trained"):
        build_bundle(half.run_dir, half.checkpoint("last"), num_tasks=2)
    heard: list[str] = []
    metadist.evaluate_run(half.run_dir, num_tasks=2, on_message=heard.append)
    assert any("warning: my_other_net.py changed" in message for message in heard)
    source.write_text(before)
    resumed = metadist.train(str(recipe), set=local, run_dir=half.run_dir, resume=True)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    source.write_text(before + "\n# an afterthought\n")
    options = {"set": {**local, "outer.num_steps": 7}, "run_dir": half.run_dir, "resume": True}
    metadist.train(str(recipe), accept=["code.my_other_net.py"], **options)
    assert [event["key"] for event in happened(half.run_dir, "accepted_difference")] == ["code.my_other_net.py"]
