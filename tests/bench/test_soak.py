"""Soak: many steps in one run on Ray, and what every process holds at the end against the beginning.

``METADIST_SOAK_STEPS`` makes it shorter (default 20,000: about ten minutes).
Writes ``build/soak.md``, and every sample to ``build/soak.json``.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from metadist.chaos.driver import Driver
from metadist.chaos.server import TrackingServer
from tests.support.processes import command_line, descendants, held
from tests.support.quick import SMALL_RUN
from tests.support.watch import last_step, step_times

ROOT = Path(__file__).parents[2]
STEPS = int(os.environ.get("METADIST_SOAK_STEPS", "20000"))
SAMPLE_S = 2.0
SETTLED = 0.25  # of the steps; before that caches and pools fill
PER = 10_000  # steps that a slope is given for
MOST_MB = 1.0  # a slope of the driver and of a worker
MOST_FILES = 1.0
SPIN = 200_000  # about 20 ms
OURS = ("driver", "ray::ShardWorker")

SOAK: dict[str, Any] = {
    **SMALL_RUN,
    "model": {"name": "mlp", "options": {"hidden": [164, 164], "activation": "tanh"}},  # 0.1 MB: in the object store
    "outer": {"optimizer": "adam", "lr": 0.001, "meta_batch_size": 4, "shard_size": 2, "num_steps": STEPS},
    "cluster": {"backend": "ray", "num_workers": 2},
    "evaluation": {"every_steps": 500, "num_tasks": 4},
    "checkpoint": {"every_steps": 200},
}


@dataclass(slots=True)
class Series:
    """One quantity over the run: the step of each sample and its value."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        self.steps.append(step)
        self.values.append(value)

    def settled(self) -> tuple[list[int], list[float]]:
        """The samples after caches have filled."""
        kept = [pair for pair in zip(self.steps, self.values, strict=True) if pair[0] >= SETTLED * STEPS]
        return [step for step, _ in kept], [value for _, value in kept]

    def slope(self) -> float:
        """Growth for each ``PER`` steps, by least squares over the settled samples."""
        steps, values = self.settled()
        return float(np.polyfit(steps, values, 1)[0]) * PER

    def row(self) -> str:
        _, values = self.settled()
        return f"{values[0]:.1f} | {values[-1]:.1f} | {self.slope():+.2f}"


Samples = dict[str, Series]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path / "mlflow")
    server.start()
    yield server
    server.kill()


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(7200)
def test_nothing_grows(tmp_path: Path, server: TrackingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "soak.yaml").write_text(yaml.safe_dump(SOAK))
    driver = Driver(str(tmp_path / "soak.yaml"), {"tracking.uri": server.uri}, tmp_path / "run")
    samples: Samples = defaultdict(Series)
    speed = Series()
    pause = threading.Event()
    try:
        while driver.is_running:
            step = last_step(driver.run_dir)
            if 0 < step < STEPS:  # what comes after the last step (drawing, leaving Ray) is no part of the steps
                take_sample(samples, step, driver.pid)
                speed.add(step, spin())
            pause.wait(SAMPLE_S)
        summary = driver.summary()
    finally:
        driver.stop()
    assert summary["steps"] == STEPS and summary["unsent_events"] == 0
    table = report(samples, step_times(driver.run_dir), speed)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "soak.md").write_text(table)
    curves = {name: [series.steps, series.values] for name, series in samples.items()}
    (ROOT / "build" / "soak.json").write_text(json.dumps(curves))
    print(f"\n{table}")
    for name, series in samples.items():
        what, _, quantity = name.partition(" | ")
        if quantity == "open files":
            assert series.slope() < MOST_FILES, name
        elif what.startswith(OURS):
            assert series.slope() < MOST_MB, name


def spin() -> float:
    """Milliseconds of CPU for a fixed piece of work: how fast the machine itself is at the moment."""
    begin = time.process_time()
    sum(number * number for number in range(SPIN))
    return (time.process_time() - begin) * 1000


def take_sample(samples: Samples, step: int, driver_pid: int) -> None:
    """What the driver and all below it hold now."""
    for pid, name in descendants(driver_pid).items():
        now = held(pid)
        if now is None:
            continue
        label = f"{name} {pid}" if name.startswith("ray::") else name
        samples[f"{label} | memory MiB"].add(step, now.memory_mb)
        samples[f"{label} | open files"].add(step, now.files)
        if name == "raylet":
            for what, value in ray_session(pid).items():
                samples[what].add(step, value)


def ray_session(raylet: int) -> dict[str, float]:
    """What the raylet says of its object store, and how much its session has logged."""
    found: dict[str, float] = {}
    words = [word for word in command_line(raylet) if word.startswith("--session_dir=")]
    if not words:
        return found
    logs = Path(words[0].partition("=")[2]) / "logs"
    found["Ray's logs | MiB"] = sum(path.stat().st_size for path in logs.rglob("*") if path.is_file()) / 2**20
    state = logs / "debug_state.txt"
    for line in state.read_text().splitlines() if state.is_file() else ():
        name, _, value = line.strip("- ").partition(": ")
        if name == "num local plasma objects":
            found["object store | objects"] = float(value)
        elif name == "pinned objects size":
            found["object store | MiB"] = float(value) / 2**20
    return found


def report(samples: Mapping[str, Series], times: Mapping[int, float], speed: Series) -> str:
    """The table: what each process held when caches had filled and at the end, and its slope; and the step times.

    Other programs and the host make a machine faster and slower by more than any trend of ours, so that a step is
    also told in units of a fixed piece of work that was timed beside it.
    """

    def between(begin: float, end: float) -> tuple[float, float]:
        steps = [value for step, value in times.items() if begin * STEPS <= step < end * STEPS]
        own = [v for step, v in zip(speed.steps, speed.values, strict=True) if begin * STEPS <= step < end * STEPS]
        return statistics.mean(steps), statistics.mean(steps) / statistics.mean(own)

    quarters = [between(begin, begin + 0.25) for begin in (0.0, 0.25, 0.5, 0.75)]
    lines = [
        f"# Soak: {STEPS} steps, {SOAK['cluster']['num_workers']} Ray workers",
        "",
        f"| process | what | at {SETTLED:.0%} of the steps | at the end | slope for each {PER:,} steps |",
        "|---|---|---|---|---|",
        *(f"| {name} | {series.row()} |" for name, series in sorted(samples.items()) if len(series.settled()[0]) > 2),
        "",
        "| quarter of the steps | 1 | 2 | 3 | 4 |",
        "|---|---|---|---|---|",
        "| mean step, ms | " + " | ".join(f"{step:.1f}" for step, _ in quarters) + " |",
        "| in units of a fixed piece of work | " + " | ".join(f"{share:.3f}" for _, share in quarters) + " |",
    ]
    return "\n".join(lines) + "\n"
