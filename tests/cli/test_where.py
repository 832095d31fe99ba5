"""Where a run is tracked, and what an evaluation may change: whatever the directory and the environment are."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist.tracking.state import load_acknowledged, load_run
from tests.cli.tiny import Call


@pytest.mark.slow
def test_a_run_stays_in_its_database(call: Call, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained with nothing configured; evaluated, resumed and sent from elsewhere, with another MLFLOW_TRACKING_URI."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run_dir, elsewhere = workplace / "run", workplace / "elsewhere"
    settings = ["--set", "outer.num_steps=4", "--set", f"tasks.path={workplace / 'store'}"]
    train = ["train", str(workplace / "tiny.yaml"), "--run-dir", str(run_dir), "--json", *settings]
    first = call(*train).json
    assert first["unsent_events"] == 0
    before = load_run(run_dir)
    assert before is not None and before.uri == f"sqlite:///{workplace / 'mlflow.db'}"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert call("evaluate", str(run_dir), "--json").json["unsent_events"] == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere / 'other.db'}")
    assert call("evaluate", str(run_dir), "--num-tasks", "4").code == 0
    resumed = call(*train, "--resume", "--set", "outer.num_steps=6").json
    assert (resumed["run_id"], resumed["unsent_events"]) == (first["run_id"], 0)
    assert call("sync", str(run_dir), "--json").json["num_sent"] == 0
    assert load_run(run_dir) == before and list(elsewhere.iterdir()) == []
    sent = load_acknowledged(run_dir)
    refused = call("sync", str(run_dir), "--uri", "foo://bar")
    assert refused.code == 2 and "'foo'" in refused.error
    assert call("sync", str(run_dir), "--uri", "postgresql://nowhere/db").code == 69
    assert (load_run(run_dir), load_acknowledged(run_dir)) == (before, sent)
    moved = call("sync", str(run_dir), "--uri", "sqlite:///moved.db", "--json").json
    assert moved["num_sent"] > 0 and moved["uri"] == f"sqlite:///{elsewhere / 'moved.db'}"
    assert call("sync", str(run_dir), "--json").json["uri"] == moved["uri"]


def test_tracking_that_is_incomplete_is_said_by_evaluate(
    call: Call, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that MLflow never heard of is sent to its own experiment, to stay where it went."""
    monkeypatch.setattr("metadist.run.DRAIN_S", 0.1)
    monkeypatch.setattr("metadist.run_reader.MIRROR_S", 0.1)
    away = ["--set", "tracking.uri=http://127.0.0.1:9", "--set", "tracking.experiment=mine"]
    assert call("train", "tiny.yaml", "--run-dir", "run", "--set", "outer.num_steps=2", *away).code == 76
    answer = call("evaluate", "run", "--json")
    assert answer.code == 76 and answer.json["unsent_events"] > 0 and "metadist sync" in answer.err
    assert (workplace / "run" / "evaluation" / "test-000002" / "report.json").exists()
    (workplace / "run" / "mlflow.json").unlink()  # as if it had been killed before its mirror began
    here = f"sqlite:///{workplace / 'mlflow.db'}"
    assert call("sync", "run", "--uri", here).code == 0
    run = load_run(workplace / "run")
    assert run is not None and (run.uri, run.experiment) == (here, "mine")
    monkeypatch.setattr("metadist.run_reader.MIRROR_S", 30.0)
    assert call("evaluate", "run").code == 0, "the configuration names the server that is away no longer"


def test_an_evaluation_under_other_settings_leaves_the_own_report_alone(call: Call, workplace: Path) -> None:
    for name, steps, num_tasks in (("a", 1, 8), ("b", 2, 6)):
        settings = {"outer.num_steps": 2, "algorithm.inner_steps": steps, "evaluation.num_tasks": num_tasks}
        options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        assert call("train", "tiny.yaml", "--run-dir", name, *options).code == 0
    assert call("evaluate", "a").code == 0
    own = (workplace / "a" / "evaluation" / "test-000002" / "report.json").read_bytes()
    refused = call("evaluate", "a", "--set", "algorithm.inner_lr=5")
    assert refused.code == 2 and "--set algorithm.inner_lr" in refused.error
    split = call("evaluate", "a", "--split", "tset")
    assert split.code == 2 and "did you mean test?" in split.error
    for settings in (["evaluation.inner_steps=3"], ["evaluation.num_tasks=6"]):
        assert call("evaluate", "a", "--set", *settings).code == 0
    found = {path.name for path in (workplace / "a" / "evaluation").glob("test-*")}
    assert found == {"test-000002", "test-000002_inner_steps_3", "test-000002_num_tasks_6"}
    assert (workplace / "a" / "evaluation" / "test-000002" / "report.json").read_bytes() == own
    compared = call("compare", "a", "b", "--json").json
    assert compared["num_tasks"] == 6, "the tasks that both were judged on"
    report = workplace / "a" / "evaluation" / "test-000002" / "report.json"
    report.write_text(report.read_text().replace('"num_tasks": 8', '"num_tasks": 7'))  # under other settings, once
    assert "judging a on" in call("compare", "a", "b").err and report.read_bytes() == own
