"""A group that starts Ray itself: it works, says nothing on standard output, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

PROGRAM = """
import json, os, threading
import numpy as np
from cluster import LocalGroup, RayGroup, RayOptions
from tests.ray.work import number_factory, pieces

shared = np.linspace(-2, 2, 40_000, dtype=np.float32)
options = RayOptions(num_workers=3, object_store_memory=150 * 2**20)
with RayGroup(number_factory, options) as group:
    found = group.reduce(1, shared, pieces(6))
    pids = list(group.worker_pids().values())
import ray
expected = LocalGroup(number_factory).reduce(1, shared, pieces(6))
def alive():
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
pause = threading.Event()
for _ in range(100):  # a killed process leaves when the kernel lets it: polls a condition
    if not alive():
        break
    pause.wait(0.1)
print(json.dumps({"equal": found.vector.tobytes() == expected.vector.tobytes(),
                  "left": not ray.is_initialized(), "alive": alive(), "workers": len(pids)}))
"""


def test_a_ray_of_its_own(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["equal"] and answer["left"] and answer["alive"] == [] and answer["workers"] >= 1
    assert not (tmp_path / ".ray" / "auth_token").exists(), "Ray wrote a token into the home folder"
