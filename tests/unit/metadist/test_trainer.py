"""A run as a whole, in one process: what stops it, what is journalled, and that any shard can be run again."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from metadist import MetadistError, Observer, checkpoint, load_run
from metadist.errors import DataError, RunFolderBusy, UsageError
from metadist.folder.ownership import owned
from metadist.launch.summary import KEYS
from metadist.parameters import flatten
from metadist.replay import replay_shard
from metadist.run import default_run_dir
from metadist.tasks import plan_step
from metadist.tracking import Journal
from metadist.trainer import reduced
from metadist.worker import factory_of, publish_frozen
from tests.support.disk import Disk, Fault
from tests.support.quick import SMALL_RUN, journalled, train_quickly


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    settings = {"algorithm.inner_lr": 1e30, "algorithm.inner_steps": 3, "model.options": {"activation": "relu"}}
    with pytest.raises(DataError, match=r"train/0/\d.*nothing was updated.*replay: metadist replay .* --step 0"):
        train_quickly(SMALL_RUN, settings, tmp_path / "run")
    assert checkpoint.steps(tmp_path / "run") == []
    assert [event["status"] for event in journalled(tmp_path / "run", "status")] == ["RUNNING", "FAILED"]
    with owned(tmp_path / "run"):  # the folder was let go
        pass


class FailsThirdTime:
    """Stands where the reduction of a step stands."""

    def __init__(self) -> None:
        self._steps = 0

    def __call__(self, *arguments: Any) -> Any:
        self._steps += 1
        return reduced(*arguments) if self._steps < 3 else 1 // 0


def test_an_error_is_not_hidden_by_a_disk_that_fails_as_well(tmp_path: Path) -> None:
    """The step fails, then so does saving what was reached, and the journal's last line."""
    disk = Disk()

    def on_step(step: int, metrics: Any) -> None:
        if step == 2:
            disk.fault = Fault(at=len(disk.calls) + 1, kind="ENOSPC", lasting=True)

    told: list[str] = []
    observer = Observer(on_step=on_step, on_message=told.append)
    with disk.armed(), mock.patch("metadist.trainer.reduced", FailsThirdTime()), pytest.raises(ZeroDivisionError):
        train_quickly(SMALL_RUN, {}, tmp_path / "run", observer=observer)
    assert any("step 2 could not be saved either" in text and "No space left" in text for text in told), told
    assert [event["status"] for event in journalled(tmp_path / "run", "status")] == ["RUNNING"]


def test_old_checkpoints_that_cannot_be_removed_do_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("os.rmdir", refuse)  # as on a network file system, while somebody reads there
    told: list[str] = []
    settings = {"checkpoint": {"every_steps": 2, "keep": 1}}
    train_quickly(SMALL_RUN, settings, tmp_path / "run", observer=Observer(on_message=told.append))
    assert any("cannot be removed" in text and "Directory not empty" in text for text in told)
    monkeypatch.undo()
    settings = {"checkpoint": {"every_steps": 2, "keep": 1}, "outer.num_steps": 12}
    run = train_quickly(SMALL_RUN, settings, tmp_path / "run", resume=True)
    assert checkpoint.steps(run.run_dir) == sorted({12, run.summary["best"]["step"]})
    assert not list((run.run_dir / "checkpoints").glob(".*"))


def test_the_journal_of_a_run(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    rows = [row for row in journalled(run.run_dir, "metrics") if "train/query_loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert {"train/query_mse", "train/gradient_norm", "train/gradient_agreement", "train/lr"} <= set(rows[0])
    assert all(-1 <= row["train/gradient_agreement"] <= 1 for row in rows)
    judged = [row["step"] for row in journalled(run.run_dir, "metrics") if "validation/mse" in row]
    assert judged == [5, 10]
    (dataset,) = journalled(run.run_dir, "dataset")
    assert dataset["digest"] == "uniform sinusoids"
    best = run.summary["best"]
    assert best["metric"] == "mse" and run.checkpoint("best").state.step == best["step"]
    assert load_run(run.run_dir).config == run.config


def test_the_best_checkpoint_survives_pruning(tmp_path: Path) -> None:
    settings = {
        "evaluation.every_steps": 2,
        "checkpoint": {"every_steps": 3, "keep": 1},
        "outer.lr": 0.3,  # too large, so that the best is not the last
        "outer.num_steps": 12,
    }
    run = train_quickly(SMALL_RUN, settings, tmp_path / "run")
    rows = [row for row in journalled(run.run_dir, "metrics") if "validation/mse" in row]
    values = {row["step"]: row["validation/mse"] for row in rows}
    best = min(values, key=lambda step: values[step])
    assert run.summary["best"]["step"] == best
    assert checkpoint.steps(run.run_dir) == sorted({best, 12})


@pytest.mark.parametrize("step", [0, 7, 9])
def test_a_shard_is_replayed_with_the_bits_of_the_worker(step: int, tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {"outer.optimizer": "adam"}, tmp_path / "run")
    shorter = {"outer.num_steps": step, "checkpoint.every_steps": 1}
    there = train_quickly(SMALL_RUN, shorter, tmp_path / "part") if step else None
    found = replay_shard(run.run_dir, step=step, shard=2, on_message=lambda message: None)
    parts = run.parts()
    flat = there.checkpoint("last").flat if there else flatten(parts.algorithm.init(run.config.seed))
    shard = plan_step(step, meta_batch_size=6, shard_size=2)[2]
    partial = factory_of(parts, None, "cpu", tmp_path)()(step, flat, shard)
    assert found["gradient_sha256"] == hashlib.sha256(partial.vector.tobytes()).hexdigest()
    assert found["tasks"] == [f"train/{step}/4", f"train/{step}/5"]


def test_a_shard_that_no_step_has_cannot_be_replayed(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {"outer.num_steps": 1}, tmp_path / "run")
    with pytest.raises(UsageError, match=r"shards 0\.\.2; asked for 3"):
        replay_shard(run.run_dir, step=0, shard=3, on_message=lambda message: None)


@pytest.mark.parametrize(
    ("split", "step", "words"),
    [
        ("train", 1, r"--step 1 is beyond the run, which trains steps 0\.\.0"),
        ("validation", 2, r"--step 2 is beyond the run, which is judged after steps 0\.\.1"),
        ("trian", 0, r"--split 'trian' is not known; did you mean 'train'\?"),
    ],
)
def test_a_step_or_split_that_no_run_has_cannot_be_replayed(split: str, step: int, words: str, tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {"outer.num_steps": 1}, tmp_path / "run")
    with pytest.raises(UsageError, match=words):
        replay_shard(run.run_dir, step=step, shard=0, split=split, on_message=pytest.fail)


def test_a_summary_always_has_the_same_keys(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    again = train_quickly(SMALL_RUN, {}, tmp_path / "run", resume=True)
    assert tuple(run.summary) == tuple(again.summary) == KEYS
    same = ("steps", "params_sha256", "query_loss", "query_mse", "query_accuracy", "query_metrics", "best")
    assert {key: again.summary[key] for key in same} == {key: run.summary[key] for key in same}
    assert again.summary["query_mse"] > 0 and again.summary["query_accuracy"] is None
    assert again.summary["tasks_per_second"] > 0


def test_no_two_runs_share_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    made = [str(default_run_dir("glyphs")) for _ in range(3)]
    assert made == ["runs/glyphs-now", "runs/glyphs-now-2", "runs/glyphs-now-3"]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with owned(tmp_path / "run"), pytest.raises(RunFolderBusy):
        train_quickly(SMALL_RUN, {}, tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_the_plan_is_the_first_thing_that_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    train_quickly(SMALL_RUN, {"outer.num_steps": 1}, tmp_path / "run", observer=Observer(on_message=told.append))
    assert told[0].startswith("6 tasks = 3 shards of 2 | 1 worker (local) | cpu | ")
    assert "mlp 25 meta-learned, 0 frozen" in told[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"factory": "nowhere.to:be_found"}}, "cannot be imported"),
        ({"model": {"factory": "tests.support.models:missing"}}, "has no 'missing'"),
        ({"model": {"factory": "no_colon"}}, "not of the form"),
        ({"model": {"name": "mlp", "options": {"nonsense": 1}}}, "nonsense"),
        ({"model": {"name": "conv4"}}, "conv4 needs images"),
        ({"model.weights": "nowhere.safetensors"}, "no such file"),
        ({"algorithm.adapt": ["tail.*"]}, "matches none of the meta-learned leaves body.0.weight"),
        ({"algorithm.name": "reptile", "algorithm.inner_steps": 0}, "reptile needs"),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_anything_is_written(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(MetadistError, match=words) as raised:
        train_quickly(SMALL_RUN, settings, tmp_path / "run")
    assert raised.value.exit_code == 78
    assert not (tmp_path / "run" / "fingerprint.json").exists()
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_frozen_leaves_are_published_whole(tmp_path: Path) -> None:
    """What a kill left of them is written again."""
    parts: Any = SimpleNamespace(model=SimpleNamespace(frozen={"body": torch.arange(5.0)}))
    path = Path(publish_frozen(parts, tmp_path) or "")
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    publish_frozen(parts, tmp_path)
    assert path.read_bytes() == whole and [file.name for file in tmp_path.iterdir()] == ["frozen.safetensors"]


def test_the_best_is_not_compared_across_judges(tmp_path: Path) -> None:
    easy = {"evaluation.inner_steps": 20, "outer.num_steps": 5}
    first = train_quickly(SMALL_RUN, easy, tmp_path / "run")
    hard = {"evaluation.inner_steps": 0}
    run = train_quickly(SMALL_RUN, hard, first.run_dir, resume=True, accept=("evaluation.inner_steps",))
    assert run.summary["best"]["value"] > first.summary["best"]["value"], "with the old judge nothing is better"
    assert run.summary["best"]["step"] == 10
    again = train_quickly(SMALL_RUN, {**hard, "outer.num_steps": 15}, first.run_dir, resume=True)
    assert again.summary["best"]["step"] >= 10, "the change is kept in mind"


def test_a_resume_keeps_what_was_judged(tmp_path: Path) -> None:
    """Evaluations are journalled behind the last checkpoint, of steps that stay."""
    run = train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "run")
    with Journal(run.run_dir) as journal:
        journal.metrics(5, {"test/mse": 0.5})
        journal.artifact(run.run_dir / "resolved.yaml", folder="evaluation/test-000005", step=5)
        journal.metrics(6, {"train/mse": 9.0})  # a step behind the checkpoint is computed again
    for steps in (5, 10):
        train_quickly(SMALL_RUN, {"outer.num_steps": steps}, run.run_dir, resume=True)
        rows = [row for row in run.metrics() if "test/mse" in row]
        assert [(row["step"], row["test/mse"]) for row in rows] == [(5, 0.5)]
        kept = [event["folder"] for event in journalled(run.run_dir, "artifact")]
        assert kept.count("evaluation/test-000005") == 1
        assert not [row for row in run.metrics() if row.get("train/mse") == 9.0]


def test_a_signal_in_the_last_step_finds_a_whole_run(tmp_path: Path) -> None:
    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    run = train_quickly(SMALL_RUN, {}, tmp_path / "run", observer=Observer(on_step=on_step))
    assert run.summary["steps"] == 10
    assert [event["status"] for event in journalled(run.run_dir, "status")] == ["RUNNING", "FINISHED"]
