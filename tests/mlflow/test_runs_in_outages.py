"""Whole runs (`metadist train` in a process of its own) while MLflow, a disk or another driver fails them.

The law: an outage of the middle third changes neither what arrives nor how long a step takes. `make laws` runs
the long one and writes ``build/outage.md``; the times in it are for people, and assert nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from metadist import checkpoint
from metadist.chaos.driver import Driver
from metadist.chaos.server import TrackingServer
from metadist.errors import MetadistError
from metadist.tracking import JOURNAL_NAME, read_events, sync
from tests.mlflow.points import check_points
from tests.support.proxy import proxy_before
from tests.support.quick import SMALL_RUN
from tests.support.watch import last_step, step_times, wait_for_step

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RARELY = {"evaluation.every_steps": 100_000, "checkpoint.every_steps": 100_000}  # both take time of their own
SEVERAL = {"outer.num_steps": 200, "evaluation.every_steps": 50, "checkpoint.every_steps": 10}
SAMPLE, FULL = 150, 1500
KINDS = ("dead", "hung")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL_RUN))
    return str(tmp_path / "small.yaml")


@pytest.fixture
def reader(mlflow_server: Any) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_server.uri)


@contextlib.contextmanager
def driver_of(recipe: str, run_dir: Path, uri: str, settings: dict[str, Any]) -> Iterator[Driver]:
    """A run that is tracked at ``uri``."""
    driver = Driver(recipe, {"tracking.uri": uri, **settings}, run_dir)
    try:
        yield driver
    finally:
        driver.stop()


@dataclass(frozen=True, slots=True)
class Third:
    """The steps of an outage, and what they took beside the others."""

    begun: int
    ended: int

    def row(self, kind: str, times: dict[int, float]) -> str:
        """Milliseconds a step before, during and after the outage, and during over the rest."""
        before = [time for step, time in times.items() if step < self.begun]
        during = [time for step, time in times.items() if self.begun <= step < self.ended]
        after = [time for step, time in times.items() if step >= self.ended]
        ratio = fastest(during) / fastest(before + after)
        parts = [
            f"{fastest(part):.1f} / {statistics.median(part):.0f} / {max(part):.0f}" for part in (before, during, after)
        ]
        return f"| {kind} | {self.begun}-{self.ended} | {' | '.join(parts)} | {ratio:.3f} |"


def fastest(times: Sequence[float]) -> float:
    """The mean of the fastest quarter: what a step takes where the machine's other work does not disturb it."""
    return statistics.mean(sorted(times)[: max(1, len(times) // 4)])


@contextlib.contextmanager
def outage(server: TrackingServer, kind: str) -> Iterator[None]:
    """MLflow is killed, or hangs, while the block lasts; "none" leaves it alone."""
    if kind == "dead":
        server.kill()
    elif kind == "hung":
        server.hang()
    try:
        yield
    finally:
        if kind == "dead":
            server.start()
        elif kind == "hung":
            server.wake()


def test_outages_lose_no_point(
    tmp_path: Path, recipe: str, mlflow_server: TrackingServer, reader: MlflowClient
) -> None:
    """Hung in one part of the run, dead in another."""
    with driver_of(recipe, tmp_path / "run", mlflow_server.uri, {"outer.num_steps": SAMPLE, **RARELY}) as driver:
        for kind, begun, ended in (("hung", 30, 60), ("dead", 90, 120)):
            wait_for_step(driver, begun)
            with outage(mlflow_server, kind):
                wait_for_step(driver, ended)
        summary = driver.summary()
    if summary["unsent_events"]:
        sync(driver.run_dir)
    check_points(reader, driver.run_dir)
    assert len(step_times(driver.run_dir)) == SAMPLE - 1


@pytest.mark.laws
@pytest.mark.timeout(1800)
def test_an_outage_of_the_middle_third(
    tmp_path: Path, recipe: str, mlflow_server: TrackingServer, reader: MlflowClient
) -> None:
    """Writes ``build/outage.md``: milliseconds a step before, during and after, their ratio in the one run."""
    rows = []
    settings = {"outer.num_steps": FULL, "outer.meta_batch_size": 48, "outer.shard_size": 8, **RARELY}
    for kind in ("none", *KINDS):
        run_dir = tmp_path / kind
        with driver_of(recipe, run_dir, mlflow_server.uri, settings) as driver:
            begun = wait_for_step(driver, FULL // 3)
            with outage(mlflow_server, kind):
                third = Third(begun, wait_for_step(driver, 2 * FULL // 3))
            summary = driver.summary()
        if summary["unsent_events"]:
            sync(run_dir)
        points = check_points(reader, run_dir)
        sent_late = f"{summary['unsent_events']} events by `metadist sync`" if summary["unsent_events"] else "none"
        rows.append(f"{third.row(kind, step_times(run_dir))} {points} of {points} | {sent_late} |")
    what = "ms a step: mean of the fastest quarter / median / longest"
    head = f"| MLflow | steps of the outage | before ({what}) | during | after | during : rest | points | sent later |"
    out = ROOT / "build"
    out.mkdir(exist_ok=True)
    (out / "outage.md").write_text("\n".join([head, "|---|---|---|---|---|---|---|---|", *rows]) + "\n")


def test_refused_from_the_start(tmp_path: Path, recipe: str, mlflow_server: Any, reader: MlflowClient) -> None:
    """It trains to the end, says what to do, exits 76; `metadist sync` brings everything."""
    command = [sys.executable, "-m", "metadist", "train", recipe, "--run-dir", str(tmp_path / "run")]
    with proxy_before(mlflow_server.port) as proxy:
        proxy.status = 401
        environ = {**os.environ, "MLFLOW_TRACKING_URI": proxy.uri}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 76, done.stderr
        (unsent,) = [line for line in done.stderr.splitlines() if "have not reached MLflow" in line]
        assert "MLFLOW_TRACKING_TOKEN" in unsent and f"metadist sync {tmp_path / 'run'}" in unsent
        assert proxy.requests <= 3
        proxy.heal()
        command = [sys.executable, "-m", "metadist", "sync", str(tmp_path / "run")]
        assert subprocess.run(command, capture_output=True, timeout=200, check=False).returncode == 0
    check_points(reader, tmp_path / "run")


def test_the_disk_of_the_run_folder_is_full(
    tmp_path: Path, recipe: str, mlflow_server: Any, reader: MlflowClient
) -> None:
    """The run stops with the cause, what was written stays whole, and --resume goes on once there is room."""
    run_dir = tmp_path / "run"
    with driver_of(recipe, run_dir, mlflow_server.uri, SEVERAL) as driver:
        wait_for_step(driver, 20)
        size = (run_dir / JOURNAL_NAME).stat().st_size
        _, hard = resource.prlimit(driver.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (size + 1000, hard))  # the kernel refuses to go beyond
        with pytest.raises(
            MetadistError, match=r"exit code 69(?s:.*)error: cannot write to .*journal\.jsonl"
        ) as caught:
            driver.summary()
        assert "Traceback" not in str(caught.value)
        reached = last_step(run_dir)
        assert 20 <= reached < 200 and len(list(read_events(run_dir))) > 20
        assert checkpoint.newest_whole(run_dir, pytest.fail) is not None
    with driver_of(recipe, run_dir, mlflow_server.uri, SEVERAL) as driver:
        assert driver.summary()["unsent_events"] == 0
    check_points(reader, run_dir)


@pytest.mark.laws  # in the suite: tests/unit/tracking/test_mirror.py, without processes
def test_a_stopped_driver_does_not_keep_its_successor_from_sending(
    tmp_path: Path, recipe: str, mlflow_server: Any, reader: MlflowClient
) -> None:
    settings = {**SEVERAL, "checkpoint.lease_s": 1.0}
    with driver_of(recipe, tmp_path / "run", mlflow_server.uri, settings) as first:
        wait_for_step(first, 20)
        os.kill(first.pid, signal.SIGSTOP)
        reached = last_step(first.run_dir)
        with driver_of(recipe, tmp_path / "run", mlflow_server.uri, settings) as second:
            assert second.summary()["unsent_events"] == 0
        assert reached < 200
        os.kill(first.pid, signal.SIGCONT)
        with pytest.raises(MetadistError, match="exit code 75"):
            first.summary()
    sync(tmp_path / "run")
    check_points(reader, tmp_path / "run")
