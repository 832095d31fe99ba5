"""A worker that raises: the message names step, shard and tasks, and its last line reproduces the error here."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from metadist import checkpoint
from tests.support.models import picky_about
from tests.support.quick import SMALL_RUN

ROOT = Path(__file__).parents[2]
OUTER = {**SMALL_RUN["outer"], "meta_batch_size": 8}
RECIPE = {**SMALL_RUN, "outer": OUTER, "evaluation": {"every_steps": 100, "num_tasks": 4}}
PYTHON = (sys.executable, "-m")


def run(folder: Path, *command: str, debugger: bool = False) -> subprocess.CompletedProcess[str]:
    """``metadist ...`` in a process of its own."""
    assert command[0] == "metadist"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    program = [*PYTHON, "pdb", "-c", "continue", "-m", *command] if debugger else [*PYTHON, *command]
    return subprocess.run(
        program, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
    )


@pytest.mark.ray
@pytest.mark.parametrize(
    ("workers", "num_steps", "failing"), [(2, 20, 11), pytest.param(4, 500, 417, marks=pytest.mark.laws)]
)
def test_a_worker_that_raises(workers: int, num_steps: int, failing: int, tmp_path: Path) -> None:
    """Task 6 of the step is in shard 3, the last one."""
    recipe = picky_about(RECIPE, None, step=failing, index=6, unless=str(tmp_path / "mended"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    places = {"cluster.backend": "ray", "cluster.num_workers": workers, "cluster.cpus_per_worker": 0.25}
    settings = {**places, "outer.num_steps": num_steps}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    train = ("metadist", "train", "recipe.yaml", *options, "--run-dir", "the run", "--resume")

    failed = run(tmp_path, *train)
    assert failed.returncode == 70, failed.stderr
    tasks = f"train/{failing}/6..7"
    assert f"error: train shard 3 of step {failing}, tasks {tasks} raised ValueError in worker" in failed.stderr
    assert "traceback in the worker" in failed.stderr and "this net does not like" in failed.stderr
    assert checkpoint.steps(tmp_path / "the run")[-1] == failing, "what was reached is saved"
    mark = json.loads((tmp_path / "the run" / "failed.json").read_text())
    assert mark["exit_code"] == 70 and tasks in mark["message"]

    (line,) = (line for line in failed.stderr.splitlines() if line.startswith("replay it here: "))
    command = shlex.split(line.removeprefix("replay it here: "))
    replayed = run(tmp_path, *command)
    assert replayed.returncode == 70
    assert "in forward" in replayed.stderr and "ValueError: this net does not like" in replayed.stderr
    assert f"error: reproduced: shard 3 of step {failing} raised ValueError: this net" in replayed.stderr
    if num_steps == 500:
        debugged = run(tmp_path, *command, debugger=True)
        assert "Entering post mortem debugging" in debugged.stdout, debugged.stdout + debugged.stderr
        assert "models.py" in debugged.stdout and "-> raise ValueError" in debugged.stdout
        (tmp_path / "mended").touch()
        assert run(tmp_path, *command).returncode == 0
