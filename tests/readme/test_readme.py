"""The README's examples are run as they stand, and its commands exist."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MARKED = re.compile(
    r"<!-- test: (?P<name>[\w-]+)(?:, file: (?P<file>\S+))? -->\n```(?P<kind>\w+)\n(?P<text>.*?)```", re.S
)
BLOCKS = {match["name"]: match for match in MARKED.finditer(README)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for match in BLOCKS.values():
        if match["file"]:
            (tmp_path / match["file"]).write_text(match["text"])
    return tmp_path


def _commands() -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("metadist ")]


def test_own_tasks_own_model_own_loop(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own data, own network: trained, judged, and the ten-line loop gives the command's bits."""
    import metadist
    from metadist.cli import app

    exec(compile(BLOCKS["own-tasks"]["text"], "own-tasks", "exec"), {})
    own = [command for command in _commands() if "mine.yaml" in command or "runs/own" in command]
    assert len(own) == 4
    for command in own:
        app(command, standalone_mode=False)
    capsys.readouterr()
    exec(compile(BLOCKS["own-loop"]["text"], "own-loop", "exec"), {})
    printed = capsys.readouterr().out.strip()
    run = metadist.train("mine.yaml", set={"outer.num_steps": 10}, run_dir="runs/ten")
    assert run.summary["params_sha256"] == printed


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_parses(command: list[str]) -> None:
    """Each command of the README is one that the command line knows, with options that it has."""
    import typer.main

    from metadist.cli import app

    root = typer.main.get_command(app)
    context = root.make_context("metadist", list(command), resilient_parsing=False)
    name, found, arguments = root.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
    assert name and found is not None
    found.make_context(name, arguments, parent=context)
