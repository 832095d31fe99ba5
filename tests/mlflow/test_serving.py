"""The registered model as MLflow loads and serves it: two versions in one process, and a real server without Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from metadist import Run, load_adapter
from metadist.adapter import Adapter
from metadist.registry import build_bundle, code, flavour
from metadist.registry.report import raw_tasks
from metadist.serving.bundle import Bundle
from metadist.serving.fetch import prepare_mlflow
from metadist.sources import build_source
from tests.support.quick import NoMirror
from tests.support.toys import image_run

pytestmark = pytest.mark.slow

START_S = 120
NAMES = np.array(["ash", "elm", "oak"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    prepare_mlflow()
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        return image_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    return build_bundle(run.run_dir, run.checkpoint("best"))


@pytest.fixture(scope="module")
def model(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flavour.save_model(bundle, tmp_path_factory.mktemp("model"))


def request_of(adapter: Adapter, index: int) -> dict[str, Any]:
    """A fixed test task as numpy arrays, with names as labels."""
    config = adapter.bundle.config
    raw = config.model_copy(update={"tasks": config.tasks.model_copy(update={"transform": ()})})
    task = list(raw_tasks(build_source(raw, config.tasks.path), "test", index + 1))[index]
    names = NAMES[task.support_y].astype(object)
    return {"support_x": task.support_x, "support_y": names, "query_x": task.query_x}


def same_answer(given: dict[str, Any], adapter: Adapter, request: dict[str, Any], steps: int | None = None) -> bool:
    """Whether an answer equals the adapter's bit for bit."""
    predictor = adapter.adapt(request["support_x"], request["support_y"], steps)
    return (
        np.array_equal(np.array(given["probabilities"], np.float32), predictor.predict_proba(request["query_x"]))
        and given["labels"] == predictor.predict(request["query_x"]).tolist()
        and given["support_loss"] == list(predictor.support_loss)
        and given["classes"] == list(predictor.classes)
        and given["inner_steps"] == predictor.inner_steps
        and given["bundle"] == adapter.bundle.id
    )


def test_nothing_is_pickled(model: Path) -> None:
    names = [path.name for path in model.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    wanted = (model / "requirements.txt").read_text()
    assert "torch==" in wanted and "safetensors==" in wanted and "ray" not in wanted


def test_a_loaded_model_answers_as_its_adapter(model: Path, bundle: Bundle) -> None:
    from mlflow import pyfunc

    adapter = load_adapter(bundle.folder)
    loaded = pyfunc.load_model(str(model))
    for index in range(3):
        request = request_of(adapter, index)
        assert same_answer(loaded.predict(request), adapter, request)
        assert same_answer(loaded.predict(request, params={"inner_steps": 4}), adapter, request, 4)
    assert load_adapter(model).bundle.id == bundle.id  # the folder of a logged model will do, too


def test_two_versions_in_one_process_run_their_own_code(model: Path, bundle: Bundle, tmp_path: Path) -> None:
    """A later metadist that answers otherwise, loaded beside this one: neither disturbs the other."""
    from mlflow import pyfunc

    now = code.served_code()
    source = now.modules["metadist.adapter"]
    changed = source.replace("return torch.softmax(aligned(outputs), dim=-1).numpy()", "return outputs * 0 + 0.25")
    assert changed != source
    later = replace(now, modules={**now.modules, "metadist.adapter": changed}, digest="0" * 64)
    with mock.patch.object(flavour, "served_code", lambda: later):
        other = flavour.save_model(bundle, tmp_path)
    adapter = load_adapter(bundle.folder)
    request = request_of(adapter, 0)
    first, second = pyfunc.load_model(str(model)), pyfunc.load_model(str(other))
    assert set(np.array(second.predict(request)["probabilities"]).ravel()) == {0.25}
    assert same_answer(first.predict(request), adapter, request)
    third = pyfunc.load_model(str(model))
    assert same_answer(third.predict(request), adapter, request)


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``mlflow models serve`` on a loopback port, in a process that cannot import Ray or this repository."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "blocked").mkdir()
    for name in ("ray", "metadist", "cluster", "tasks_store"):
        (folder / "blocked" / f"{name}.py").write_text("raise ImportError('not on a serving machine')\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    environ = os.environ | {
        "PYTHONPATH": str(folder / "blocked"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it starts uvicorn by name
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=folder,
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        pause = threading.Event()
        for _ in range(START_S * 5):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                pause.wait(0.2)  # polls a condition; there is nothing to wait on in another program
        else:
            raise AssertionError((folder / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def post(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    text = json.dumps(body, default=lambda value: value.tolist()).encode()
    request = urllib.request.Request(url, data=text, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_served_over_http_bit_for_bit(served: str, bundle: Bundle) -> None:
    adapter = load_adapter(bundle.folder)
    for index in range(5):
        request = request_of(adapter, index)
        status, answer = post(served, {"inputs": request, "params": {"inner_steps": 1}})
        assert status == 200 and same_answer(answer["predictions"], adapter, request, 1)
        numbered = {**request, "support_y": [int(np.argmax(name == NAMES)) for name in request["support_y"]]}
        status, answer = post(served, {"inputs": numbered})
        assert status == 200 and answer["predictions"]["classes"] == [0, 1, 2]
        assert same_answer(answer["predictions"], adapter, numbered)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "null label": ({"support_y": ["a", "a", "b", None, "c", "c"]}, "support_y[3] is null"),
    "two classes": ({"support_y": ["a", "a", "b", "b", "b", "b"]}, "2 distinct labels"),
    "float labels": ({"support_y": [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]}, "labels are strings or integers"),
    "scaled pixels": ({"query_x": np.full((1, 12, 12), 0.5)}, "already scaled"),
    "too large": ({"query_x": np.full((1, 12, 12), 300)}, "0 to 255"),
    "other shape": ({"query_x": np.zeros((1, 11, 12))}, "does not match expected shape"),
    "no support_y": ({"support_y": ...}, "support_y"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_told_and_the_server_lives(served: str, bundle: Bundle, case: str) -> None:
    change, message = BAD_REQUESTS[case]
    adapter = load_adapter(bundle.folder)
    good = request_of(adapter, 0)
    bad = {name: value for name, value in {**good, **change}.items() if value is not ...}
    status, answer = post(served, {"inputs": bad})
    assert status == 400 and message in answer
    status, answer = post(served, {"inputs": good})
    assert status == 200 and same_answer(answer["predictions"], adapter, good)
