"""Raw rows in, answers out: runs with transforms are trained, registered, and served as they were reported."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import metadist
from metadist import Run, load_adapter
from metadist.adapter import Adapter
from metadist.answers.request import answer
from metadist.errors import DataError, FingerprintMismatch
from metadist.folder.run_folder import FINGERPRINT, read_fingerprint
from metadist.registry import build_bundle
from metadist.registry.code import served_code
from metadist.registry.flavour import _signature
from metadist.registry.report import raw_tasks
from metadist.sources import build_source, fitted_of
from metadist.transforms.chain import digest_of
from metadist.transforms.targets import fitted_arrays
from metadist.worker import factory_of
from tests.support.quick import NoMirror
from tests.support.tables import air_store, bank_store
from tests.unit.metadist.test_grouped import AIR

BANK: dict[str, Any] = {
    "tasks": {
        "ways": 3,
        "shots": 2,
        "queries": 2,
        "transform": [{"name": "tokenize", "options": {"length": 10, "vocabulary": 100}}],
    },
    "model": {"name": "gru", "options": {"width": 6}},
    "objective": {"name": "classification", "options": {"label_smoothing": 0.1}},
    "algorithm": {"name": "protonet"},
    "outer": {"meta_batch_size": 4, "num_steps": 4, "lr": 0.01},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 4, "num_tasks": 10},
    "checkpoint": {"every_steps": 2},
}
OWN = """
import numpy as np
from metadist.transforms import Step


def build(power):
    def fit(values):
        return {"largest": np.abs(values).max(0)}

    def apply(values, state):
        return (values / state["largest"]) ** power

    return Step(apply, fit)
"""
POWERS = {"name": "my_powers:build", "options": {"power": 3}}


@pytest.fixture(scope="module")
def unmirrored() -> Iterator[None]:
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        yield


@pytest.fixture(scope="module", params=["text", "transformer", "standardized", "own"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, unmirrored: None) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        if request.param == "text":
            yield metadist.train(BANK, set={"tasks.path": bank_store(folder)}, run_dir=folder / "run")
        elif request.param == "transformer":
            model = {"name": "transformer", "options": {"width": 8, "heads": 2, "layers": 1}}
            maml = {"name": "maml", "inner_steps": 2, "inner_lr": 0.1}
            recipe = {**BANK, "model": model, "algorithm": maml}
            yield metadist.train(recipe, set={"tasks.path": bank_store(folder)}, run_dir=folder / "run")
        else:
            (folder / "my_powers.py").write_text(OWN)
            part = {"name": "standardize"} if request.param == "standardized" else POWERS
            settings: dict[str, Any] = {
                "tasks.path": air_store(folder),
                "tasks.transform": [part],
                "code_path": [str(folder)],
            }
            if request.param == "own":
                settings["tasks.target_transform"] = [{"name": "standardize"}]
            yield metadist.train(AIR, set=settings, run_dir=folder / "run")
    sys.modules.pop("my_powers", None)


@pytest.fixture(scope="module")
def adapter(run: Run) -> Adapter:
    return load_adapter(build_bundle(run.run_dir, run.checkpoint("last")).folder)


def test_raw_rows_are_answered_as_reported(run: Run, adapter: Adapter) -> None:
    """Bit for bit: what the report says of each task is what the served model does with its stored rows."""
    config = run.config
    source = build_source(config, config.tasks.path)
    metric = str(config.evaluation.metric)
    with np.load(adapter.bundle.folder / "tasks.npz", allow_pickle=False) as kept:
        wanted, losses = kept[f"query/{metric}"][:, -1], kept["support_loss"]
    wide = run.parts()
    for index, task in enumerate(raw_tasks(source, "test", config.evaluation.num_tasks)):
        predictor = adapter.adapt(task.support_x, task.support_y)
        found = predictor.predict(task.query_x)
        if metric == "accuracy":
            assert np.float32((found == task.query_y).mean(dtype=np.float32)) == wanted[index]
            sent = {"support_x": task.support_x.tolist(), "support_y": task.support_y, "query_x": list(task.query_x)}
            assert answer(adapter, sent)["labels"] == found.tolist()
        else:
            error = np.mean((found - task.query_y[:, 0]) ** 2)
            assert error == pytest.approx(wanted[index], rel=1e-5)
        assert np.float32(predictor.support_loss[1]) == losses[index, -1]
        assert np.float32(predictor.support_loss[0]) == losses[index, 0]
        ours = wide.source.fixed("test", index, index + 1).query
        assert ours is not None
        served = adapter.columns.tensor(task.query_x)
        pairs = [(ours.x[name], served[name]) for name in served] if isinstance(served, dict) else [(ours.x, served)]  # type: ignore[index]
        assert all(np.array_equal(a[0], b) for a, b in pairs), "the inputs of training and of serving"
    assert adapter.self_test() == 0.0


@pytest.mark.parametrize("run", ["own"], indirect=True, scope="module")
def test_its_code_serves_in_a_process_of_its_own(run: Run, adapter: Adapter, tmp_path: Path) -> None:
    """Without metadist, Parquet and the user's folder."""
    code = served_code()
    code.write(tmp_path)
    program = f"""
import sys
sys.modules.update(dict.fromkeys(["ray", "mlflow", "pyarrow", "cluster", "tasks_store"]))
from {code.package}.adapter import load_adapter
sys.exit(load_adapter({str(adapter.bundle.folder)!r}).self_test() != 0.0)
"""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    _signature(adapter.bundle)


def test_what_was_learned_is_in_the_fingerprint_and_travels(run: Run, adapter: Adapter) -> None:
    parts = run.parts()
    digest = read_fingerprint(run.run_dir)["transforms"]
    assert (
        digest
        == digest_of(fitted_of(parts.source))
        == digest_of(fitted_arrays(adapter.columns.chain, adapter.columns.targets))
    )
    assert (adapter.columns.targets is None) == (not run.config.tasks.target_transform)
    assert adapter.bundle.facts["fingerprints"]["transforms"] == digest
    factory = pickle.loads(pickle.dumps(factory_of(parts, run.config.tasks.path, "cpu", run.run_dir)))
    with mock.patch("metadist.sources.parquet.fitted_chain", side_effect=AssertionError("a worker fits nothing")):
        assert callable(factory())
    path = run.run_dir / FINGERPRINT
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "transforms": "0" * 64}))
    try:
        for use in (
            lambda: metadist.evaluate_run(run.run_dir, num_tasks=2),
            lambda: build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=2),
            lambda: metadist.train(run.config, run_dir=run.run_dir, resume=True),
        ):
            with pytest.raises(FingerprintMismatch, match=r"had learned 000000000000 .* here they learn"):
                use()
    finally:
        path.write_text(before)


def test_what_is_no_text_is_refused(run: Run, adapter: Adapter) -> None:
    if adapter.bundle.input.dtype != "string":
        with pytest.raises(DataError, match="send numbers"):
            adapter.adapt([["a"]], [1.0])
        return
    for support, words in (
        ([1.0, 2.0, 3.0], r"support_x\[0\] is 1.0; 'text' is text"),
        ([], "support_x is empty"),
        ([None, "a", "b"], r"support_x\[0\] is None"),
        (np.array([["a"]]), "one value an example"),
    ):
        with pytest.raises(DataError, match=words):
            adapter.adapt(support, [0, 1, 2])
