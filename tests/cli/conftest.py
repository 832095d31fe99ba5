"""A tiny store, a tiny recipe, and the command line called in this process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks_store import write_store
from tests.cli.tiny import FEATURES, RECIPE, Answer, Call, store_rows


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(empty_tracking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with ``store`` and ``tiny.yaml``; tracking and named stores stay inside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    shutil.copy(empty_tracking, tmp_path / "mlflow.db")
    write_store(store_rows(), tmp_path / "store", name="tiny", kind="classes", columns=FEATURES)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


@pytest.fixture
def call(workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call("train", "tiny.yaml", ...)``: the command line in this process."""
    from metadist.cli import main
    from metadist.commands import output

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["metadist", *arguments])
        monkeypatch.setattr(output, "errors", output.console())
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return Answer(int(code or 0), captured.out, captured.err)

    return run
