"""Code of the user's own on workers that cannot see where it lies: its folder is gone as soon as it was sent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import metadist
from metadist import run as composition
from metadist.cli import app
from metadist.config.load import dump
from metadist.errors import ConfigError
from metadist.trainer import Observer
from tests.support.quick import SMALL_RUN, happened, train_quickly, unmirrored

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

WORKERS = {"cluster": {"backend": "ray", "num_workers": 2, "cpus_per_worker": 0.5, "gpus_per_worker": 0}}
BUILD = """
from torch import nn
{imports}

def build(spec):
    return nn.Sequential(nn.Linear(spec.input_shape[0], {width}), Layer(), nn.Linear({width}, spec.outputs))
"""
LAYER = "from torch import nn\n\n\nclass Layer(nn.Softplus):\n    pass\n"
LAZY = """
from torch import nn


class Layer(nn.Module):
    def forward(self, x):
        from importlib import import_module
        return import_module("own_later").Layer()(x)
"""
FILES = {
    "own_package/__init__.py": "",
    "own_package/nets.py": BUILD.format(imports="from own_package.layers import Layer", width=7),
    "own_package/layers.py": "from own_neighbour import Layer\n",
    "own_net.py": BUILD.format(
        imports="from pathlib import Path\nfrom own_neighbour import Layer\n"
        "WIDTH = int((Path(__file__).parent / 'width.txt').read_text())",
        width="WIDTH",
    ),
    "own_neighbour.py": LAYER,
    "own_named.py": BUILD.format(
        imports="from importlib import import_module\nLayer = import_module('own_later').Layer", width=7
    ),
    "own_lazy.py": BUILD.format(imports=LAZY, width=7),
    "own_later.py": LAYER,
    "width.txt": "7",
}
Recipe = Callable[[str], dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder; the driver finds it by ``code_path`` alone, and keeps nothing of it imported."""
    place = tmp_path / "mine"
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("own_")]:
        del sys.modules[name]


@pytest.fixture
def sent_and_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes the folder away after the driver has made what it sends, and before there is a worker."""
    really = composition.open_group

    def taken_away(*arguments: Any) -> Any:
        folder.rename(folder.with_name("gone"))
        return really(*arguments)

    monkeypatch.setattr(composition, "open_group", taken_away)
    return folder


def recipe(folder: Path, factory: str) -> dict[str, Any]:
    return {**SMALL_RUN, **WORKERS, "model": {"factory": factory}, "code_path": [str(folder)]}


def locally(folder: Path, factory: str, run_dir: Path) -> str:
    """The hash where nothing travels."""
    plain = {**recipe(folder, factory), "cluster": {"backend": "local"}}
    return str(train_quickly(plain, {}, run_dir).summary["params_sha256"])


def test_a_package_travels_by_itself(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With what it imports, also to a worker that replaces a killed one, long after the folder is gone."""
    expected = locally(folder, "own_package.nets:build", tmp_path / "local")
    request.getfixturevalue("sent_and_gone")
    run_dir, heard = tmp_path / "run", list[str]()

    def kill_one(step: int, metrics: Any) -> None:
        if step == 2:
            pid = happened(run_dir, "worker_started")[0]["pid"]
            os.kill(pid, signal.SIGKILL)

    observer = Observer(on_step=kill_one, on_message=heard.append)
    alone = {"cluster.num_workers": 1}  # so that the run cannot go on without the new one
    run = train_quickly(recipe(folder, "own_package.nets:build"), alone, run_dir, observer=observer)
    assert not folder.exists() and run.summary["params_sha256"] == expected
    assert any(message.startswith("4 files of your own code (") for message in heard)
    assert happened(run_dir, "worker_lost") and len(happened(run_dir, "worker_started")) == 2


def test_the_folder_travels_when_it_is_asked_for(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--working-dir`` sends data files, too."""
    expected = locally(folder, "own_net:build", tmp_path / "local")
    file = tmp_path / "own.yaml"
    file.write_text(dump(metadist.load_config(recipe(folder, "own_net:build"), {"code_path": []})))
    request.getfixturevalue("sent_and_gone")
    command = ["train", str(file), "--run-dir", str(tmp_path / "run"), "--working-dir", str(folder), "--json"]
    with unmirrored():
        app(command, standalone_mode=False)
    assert not folder.exists() and expected in capsys.readouterr().out


@pytest.mark.parametrize("factory", ["own_named:build", pytest.param("own_lazy:build", marks=pytest.mark.laws)])
def test_without_it_the_error_names_the_flag(factory: str, sent_and_gone: Path, tmp_path: Path) -> None:
    """At the worker's start, and where the module is imported while it computes."""
    with pytest.raises(ConfigError, match=r"own_later.*--working-dir DIR") as caught:
        train_quickly(recipe(sent_and_gone, factory), {}, tmp_path / "run")
    assert caught.value.exit_code == 78 and "Traceback" not in str(caught.value)
