"""``metadist chaos`` as its users run it: two trainings, one of them killed, and a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.quick import SMALL_RUN

ROOT = Path(__file__).parents[2]


def chaos(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL_RUN))
    command = [sys.executable, "-m", "metadist", "chaos", "small.yaml", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.laws
def test_a_killed_driver(tmp_path: Path) -> None:
    done = chaos(
        tmp_path, "--kill-driver-at", "50", "--set", "outer.num_steps=120", "--set", "checkpoint.every_steps=20"
    )
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["equal"] and verdict["was_hit"] and verdict["driver_kills"] == 1
    assert verdict["undisturbed"] == verdict["disturbed"] and verdict["unsent_events"] == 0


def test_a_local_run_has_no_workers_to_hit(tmp_path: Path) -> None:
    done = chaos(tmp_path, "--kill-workers-every", "5s")
    assert done.returncode == 2 and "there are no workers to hit" in done.stderr
