"""The mirror and a real MLflow server, killed, hung, replayed: everything arrives exactly once."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metadist.tracking import Journal, MlflowMirror, TrackingUnavailable, read_events, sync
from metadist.tracking.state import OFFSET_NAME, load_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0  # how long a test waits for what must happen; it is not a measurement


def mirror_of(run_dir: Path, uri: str) -> MlflowMirror:
    return MlflowMirror(run_dir, uri=uri, experiment="outage", run_name=run_dir.name, interval_s=0.05).start()


def rows_of(reader: MlflowClient, run_id: str, name: str) -> list[tuple[int, int, float]]:
    return sorted((m.step, m.timestamp, m.value) for m in reader.get_metric_history(run_id, name))


def journalled(run_dir: Path, name: str) -> list[tuple[int, int, float]]:
    events = [event for event in read_events(run_dir) if event.kind == "metrics" and name in event.data]
    return sorted((event.step or 0, event.time, event.data[name]) for event in events)


def test_a_server_killed_in_the_middle(
    tmp_path: Path, mlflow_server: Any, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    (tmp_path / "report.txt").write_text("report")
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, mlflow_server.uri)
        journal.config({"outer": {"lr": 0.001, "num_steps": 1500}})
        journal.status("RUNNING")
        for step in range(500):
            journal.metrics(step, {"train/query_loss": 1 / (step + 1), "train/accuracy": 0.5})
        assert mirror.wait_until_sent(journal.position(), PATIENCE_S), mirror.last_error
        mlflow_server.kill()
        for step in range(500, 1100):
            journal.metrics(step, {"train/query_loss": 1 / (step + 1), "train/accuracy": 0.5})
        assert not mirror.wait_until_sent(journal.position(), timeout=1.0)
        mlflow_server.start()
        for step in range(1100, 1500):
            journal.metrics(step, {"train/query_loss": 1 / (step + 1), "train/accuracy": 0.5})
        journal.dataset(name="glyphs", digest="abc", source="/data/glyphs")
        journal.artifact("report.txt", folder="evaluation")
        journal.status("FINISHED")
        assert mirror.close(PATIENCE_S) == 0, mirror.last_error
    run_id = mirror.run_id
    assert run_id is not None
    for name in ("train/query_loss", "train/accuracy"):
        assert rows_of(reader, run_id, name) == journalled(tmp_path, name)
    run = reader.get_run(run_id)
    events = list(read_events(tmp_path))
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FINISHED",
        events[0].time,
        events[-1].time,
    )
    assert run.data.params == {"outer.lr": "0.001", "outer.num_steps": "1500"}
    assert [item.dataset.digest for item in run.inputs.dataset_inputs] == ["abc"]
    assert [item.path for item in reader.list_artifacts(run_id, "evaluation")] == ["evaluation/report.txt"]

    # The acknowledgement is lost: everything is sent again, and nothing is there twice.
    (tmp_path / OFFSET_NAME).unlink()
    assert sync(tmp_path).run_id == run_id
    assert rows_of(reader, run_id, "train/query_loss") == journalled(tmp_path, "train/query_loss")


def test_down_for_the_whole_run_then_sync(
    tmp_path: Path, mlflow_server: Any, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    mlflow_server.kill()
    try:
        with Journal(tmp_path, clock=clock) as journal:
            mirror = mirror_of(tmp_path, mlflow_server.uri)
            for step in range(300):
                journal.metrics(step, {"loss": math.inf if step == 7 else float(step)})
            journal.status("KILLED")
            assert mirror.close(timeout=2.0) == 301
        with pytest.raises(TrackingUnavailable, match="refused"):
            sync(tmp_path)
    finally:
        mlflow_server.start()
    report = sync(tmp_path)
    assert (report.num_sent, report.num_refused, report.uri) == (301, 0, mlflow_server.uri)
    assert len(rows_of(reader, report.run_id, "loss")) == 300
    assert reader.get_run(report.run_id).info.status == "KILLED"


def test_resume_continues_the_run_and_repeats_no_row(
    tmp_path: Path, mlflow_server: Any, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, mlflow_server.uri)
        journal.config({"outer": {"num_steps": 20}})
        for step in range(10):
            journal.metrics(step, {"loss": float(step)})
        checkpoint = journal.position()
        for step in range(10, 15):
            journal.metrics(step, {"loss": float(step)})
        journal.status("KILLED")
        assert mirror.close(PATIENCE_S) == 0, mirror.last_error
    with Journal(tmp_path, clock=clock) as journal:
        journal.truncate_to(checkpoint)
        mirror = mirror_of(tmp_path, mlflow_server.uri)
        journal.status("RUNNING")
        journal.config({"outer": {"num_steps": 30}})
        for step in range(10, 30):
            journal.metrics(step, {"loss": float(step)})
        journal.status("FINISHED")
        assert mirror.close(PATIENCE_S) == 0, mirror.last_error
    run_id = mirror.run_id
    assert run_id is not None
    assert [(step, value) for step, _, value in rows_of(reader, run_id, "loss")] == [
        (step, float(step)) for step in range(30)
    ]
    run = reader.get_run(run_id)
    assert run.data.params == {"outer.num_steps": "20"}
    assert run.data.tags["changed.outer.num_steps"] == "30"
    assert run.info.status == "FINISHED"


def test_a_server_that_accepts_and_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    with socket.create_server(("127.0.0.1", 0)) as hung, Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, f"http://127.0.0.1:{hung.getsockname()[1]}")
        journal.metrics(0, {"loss": 1.0})
        hung.settimeout(PATIENCE_S)
        connection, _ = hung.accept()  # the mirror is inside its call
        with connection:
            for step in range(1, 2000):
                journal.metrics(step, {"loss": 1.0})
            assert mirror.close(timeout=0.0) == 2000
            assert mirror.run_id is None
    assert len(list(read_events(tmp_path))) == 2000
    run = load_run(tmp_path)
    assert run is not None
    assert run.run_id == ""
