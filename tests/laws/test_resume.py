"""Law 3, resume: 10 steps = 5 steps, kill -9 of the driver, --resume; the same bits, optimizer included."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import metadist
from metadist import Observer, checkpoint
from metadist.errors import ConfigError, FingerprintMismatch, RunFolderBusy
from metadist.folder.failed import forget
from tests.support.quick import SMALL_RUN, happened, timeless, train_quickly

ROOT = Path(__file__).parents[2]
LIMIT_S = 120

OUTERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam-cosine": {"outer.schedule": {"name": "cosine", "warmup_steps": 2}, "outer.clip_norm": 1.0},
    "adamw-groups": {
        "outer.optimizer": "adamw",
        "outer.options": {"weight_decay": 0.1, "amsgrad": True},
        "outer.groups": [{"match": ["model.head.*"], "lr": 0.05}],
        "outer.schedule": {"name": "linear", "final": 0.1},
    },
    "sgd-momentum": {"outer.optimizer": "sgd", "outer.options": {"momentum": 0.9}},
}


@contextmanager
def paused_after(
    step: int, settings: Mapping[str, Any], run_dir: Path, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Train in another process, which is there, its heart beating, once ``step`` steps are done."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "tests.support.driver", json.dumps(settings), str(run_dir), str(step), str(pipe)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _await(reader, process)
            yield process
        finally:
            os.close(reader)
            process.kill()
            process.wait()


def killed_after(step: int, settings: Mapping[str, Any], run_dir: Path, folder: Path) -> None:
    """Train in another process and kill it with SIGKILL once ``step`` steps are done."""
    with paused_after(step, settings, run_dir, folder) as process:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def _await(reader: int, process: subprocess.Popen[bytes]) -> None:
    """Until the pipe has a word or the process has ended."""
    end = os.pidfd_open(process.pid)
    try:
        ready, _, _ = select.select([reader, end], [], [], LIMIT_S)
    finally:
        os.close(end)
    assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()[-2000:]
    assert reader in ready, "the driver did not get there in time"


def same_checkpoint(one: metadist.Run, other: metadist.Run, step: int) -> None:
    mine, theirs = (checkpoint.load_checkpoint(run.run_dir, step) for run in (one, other))
    assert mine.state.params_sha256 == theirs.state.params_sha256
    assert mine.state.best == theirs.state.best
    assert mine.optimizer.keys() == theirs.optimizer.keys() and mine.optimizer
    assert all(torch.equal(leaf, theirs.optimizer[name]) for name, leaf in mine.optimizer.items())


@pytest.mark.parametrize("name", ["adam-cosine", pytest.param("adam", marks=pytest.mark.laws)])
def test_a_killed_driver_does_not_change_a_bit(name: str, tmp_path: Path) -> None:
    """Killed after step 8, so that the resumed run goes back to step 5 and computes three steps again."""
    whole = train_quickly(SMALL_RUN, OUTERS[name], tmp_path / "whole")
    killed_after(8, OUTERS[name], tmp_path / "killed", tmp_path)
    assert checkpoint.steps(tmp_path / "killed") == [5]
    assert len([row for row in timeless(tmp_path / "killed") if "train/lr" in row]) == 8
    messages: list[str] = []
    observer = Observer(on_message=messages.append)
    resumed = train_quickly(SMALL_RUN, OUTERS[name], tmp_path / "killed", resume=True, observer=observer)
    assert any("from step 5" in message for message in messages)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    same_checkpoint(resumed, whole, 10)
    assert timeless(resumed.run_dir) == timeless(whole.run_dir)
    assert happened(resumed.run_dir, "resumed") == [{"step": 5, "name": "resumed"}]


def test_a_hung_driver_loses_the_folder_and_writes_nothing_more(tmp_path: Path) -> None:
    """The first stops (SIGSTOP) after step 8; a second takes over after the lease; then the first wakes up."""
    settings = {"checkpoint.lease_s": 1.5}
    whole = train_quickly(SMALL_RUN, {}, tmp_path / "whole")
    with paused_after(8, settings, tmp_path / "shared", tmp_path) as first:
        with pytest.raises(RunFolderBusy, match=f"pid {first.pid} on"):
            train_quickly(SMALL_RUN, settings, tmp_path / "shared", resume=True)
        first.send_signal(signal.SIGSTOP)
        second = train_when_free(settings, tmp_path / "shared")
        before = contents(tmp_path / "shared")
        first.send_signal(signal.SIGCONT)
        assert first.wait(LIMIT_S) == 75
    assert contents(tmp_path / "shared") == before
    assert second.summary["params_sha256"] == whole.summary["params_sha256"]
    assert timeless(second.run_dir) == timeless(whole.run_dir)


def train_when_free(settings: Mapping[str, Any], run_dir: Path) -> metadist.Run:
    for _ in range(LIMIT_S * 10):
        try:
            return train_quickly(SMALL_RUN, settings, run_dir, resume=True)
        except RunFolderBusy:
            threading.Event().wait(0.1)
    raise AssertionError("the lease never ended")


def contents(run_dir: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run_dir.rglob("*")) if path.is_file()}


class Stop(Exception):
    """Ends a run like a crash of the driver: no checkpoint is written on the way out."""


def crashed_after(
    step: int, settings: Mapping[str, Any], run_dir: Path, observer_of: Observer | None = None, **how: Any
) -> None:
    def on_step(done: int, metrics: Mapping[str, float]) -> None:
        if done == step:
            raise Stop

    heard = observer_of or Observer()
    with pytest.raises(Stop):
        train_quickly(SMALL_RUN, settings, run_dir, observer=replace(heard, on_step=on_step), **how)
    forget(run_dir)  # a process that crashed could not have marked the run


@pytest.mark.parametrize("name", OUTERS)
@pytest.mark.parametrize("step", [7, pytest.param(2, marks=pytest.mark.laws)])
def test_a_crash_does_not_change_a_bit(name: str, step: int, tmp_path: Path) -> None:
    whole = train_quickly(SMALL_RUN, OUTERS[name], tmp_path / "whole")
    crashed_after(step, OUTERS[name], tmp_path / "crashed")
    resumed = train_quickly(SMALL_RUN, OUTERS[name], tmp_path / "crashed", resume=True)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    same_checkpoint(resumed, whole, 10)
    assert timeless(resumed.run_dir) == timeless(whole.run_dir)


def test_the_best_validation_is_remembered(tmp_path: Path) -> None:
    """With these settings step 6 is the best, and what comes after the resume is worse."""
    settings = {"outer.lr": 0.1, "evaluation.every_steps": 3}
    whole = train_quickly(SMALL_RUN, settings, tmp_path / "whole")
    assert whole.summary["best"]["step"] == 6
    crashed_after(7, settings, tmp_path / "crashed")
    resumed = train_quickly(SMALL_RUN, settings, tmp_path / "crashed", resume=True)
    assert resumed.summary["best"] == whole.summary["best"]
    assert resumed.checkpoint("best").state.step == 6
    same_checkpoint(resumed, whole, 10)


def test_two_crashes_in_a_row(tmp_path: Path) -> None:
    whole = train_quickly(SMALL_RUN, {}, tmp_path / "whole")
    crashed_after(7, {}, tmp_path / "crashed")

    def on_step(done: int, metrics: Mapping[str, float]) -> None:
        if done == 9:
            raise Stop

    with pytest.raises(Stop):
        train_quickly(SMALL_RUN, {}, tmp_path / "crashed", resume=True, observer=Observer(on_step=on_step))
    forget(tmp_path / "crashed")
    resumed = train_quickly(SMALL_RUN, {}, tmp_path / "crashed", resume=True)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    assert timeless(resumed.run_dir) == timeless(whole.run_dir)


@pytest.mark.parametrize("victim", ["params.safetensors", "optimizer.safetensors", "state.json"])
def test_a_truncated_newest_checkpoint_falls_back_loudly(victim: str, tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    file = run.run_dir / "checkpoints" / "000010" / victim
    file.write_bytes(file.read_bytes()[:-7])
    messages: list[str] = []
    observer = Observer(on_message=messages.append)
    again = train_quickly(SMALL_RUN, {}, run.run_dir, resume=True, observer=observer)
    assert any("000010" in message and "falling back" in message for message in messages), messages
    assert any("from step 5" in message for message in messages)
    (event,) = happened(run.run_dir, "checkpoint_damaged")
    assert "000010" in event["message"]
    assert (run.run_dir / "checkpoints" / "set-aside-000010" / victim).is_file()
    assert again.summary["params_sha256"] == run.summary["params_sha256"]


def test_a_damaged_checkpoint_is_not_counted_among_those_that_are_kept(tmp_path: Path) -> None:
    """Else pruning would keep it and remove the whole ones; the driver is stopped before it saves step 10 again."""
    settings: dict[str, Any] = {"checkpoint": {"every_steps": 2, "keep": 2}, "evaluation.every_steps": 100}
    whole = train_quickly(SMALL_RUN, settings, tmp_path / "whole")
    crashed_after(9, settings, tmp_path / "crashed")
    assert checkpoint.steps(tmp_path / "crashed") == [6, 8]
    (tmp_path / "crashed" / "checkpoints" / "000008" / "state.json").unlink()
    settings["checkpoint"] = {"every_steps": 1, "keep": 1}

    def on_step(done: int, metrics: Mapping[str, float]) -> None:
        if done == 8:
            raise Stop

    with pytest.raises(Stop):
        train_quickly(SMALL_RUN, settings, tmp_path / "crashed", resume=True, observer=Observer(on_step=on_step))
    assert checkpoint.steps(tmp_path / "crashed") == [7]
    resumed = train_quickly(SMALL_RUN, settings, tmp_path / "crashed", retry=True)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    same_checkpoint(resumed, whole, 10)


def test_no_whole_checkpoint_at_all_starts_afresh_and_says_so(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    for step in checkpoint.steps(run.run_dir):
        shutil.rmtree(run.run_dir / "checkpoints" / f"{step:06d}")
        (run.run_dir / "checkpoints" / f"{step:06d}").mkdir()
    messages: list[str] = []
    again = train_quickly(SMALL_RUN, {}, run.run_dir, resume=True, observer=Observer(on_message=messages.append))
    assert [("falling back" in text, "starting afresh" in text) for text in messages].count((True, False)) == 2
    assert any("starting afresh" in text for text in messages)
    assert len(happened(run.run_dir, "checkpoint_damaged")) == 2
    assert again.summary["params_sha256"] == run.summary["params_sha256"]


def test_more_steps_are_the_same_run_where_no_schedule_counts_them(tmp_path: Path) -> None:
    whole = train_quickly(SMALL_RUN, {}, tmp_path / "whole")
    train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "grown")
    grown = train_quickly(SMALL_RUN, {}, tmp_path / "grown", resume=True)
    assert grown.summary["params_sha256"] == whole.summary["params_sha256"]
    same_checkpoint(grown, whole, 10)
    assert metadist.load_run(grown.run_dir).config == whole.config
    assert not happened(grown.run_dir, "accepted_difference")


@pytest.mark.laws
def test_fifty_steps_and_then_a_hundred_are_a_hundred(tmp_path: Path) -> None:
    stepped = {"outer.schedule": {"name": "step", "every_steps": 30}}
    whole = train_quickly(SMALL_RUN, {**stepped, "outer.num_steps": 100}, tmp_path / "whole")
    train_quickly(SMALL_RUN, {**stepped, "outer.num_steps": 50}, tmp_path / "grown")
    grown = train_quickly(SMALL_RUN, {**stepped, "outer.num_steps": 100}, tmp_path / "grown", resume=True)
    assert grown.summary["params_sha256"] == whole.summary["params_sha256"]
    same_checkpoint(grown, whole, 100)


def test_fewer_steps_than_were_reached_are_refused(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    before = contents(run.run_dir)
    with pytest.raises(ConfigError, match=r"outer\.num_steps is 9, and .*run has reached step 10; ask for 10 or more"):
        train_quickly(SMALL_RUN, {"outer.num_steps": 9}, run.run_dir, resume=True)
    after = contents(run.run_dir)
    assert {name for name in after if before.get(name) != after[name] and "owner" not in name} == set()
    again = train_quickly(SMALL_RUN, {"outer.num_steps": 10}, run.run_dir, resume=True)
    assert again.summary["params_sha256"] == run.summary["params_sha256"]


def test_a_resume_with_other_numbers_is_refused_by_key(tmp_path: Path) -> None:
    train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "run")
    with pytest.raises(FingerprintMismatch, match=r"outer\.lr: 0\.01 -> 0\.02"):
        train_quickly(SMALL_RUN, {"outer.lr": 0.02}, tmp_path / "run", resume=True)
    cosine = {"outer.schedule": {"name": "cosine"}}
    train_quickly(SMALL_RUN, {"outer.num_steps": 5, **cosine}, tmp_path / "cosine")
    with pytest.raises(FingerprintMismatch, match=r"outer\.num_steps: 5 -> 10"):
        train_quickly(SMALL_RUN, cosine, tmp_path / "cosine", resume=True)


def test_resume_of_an_empty_folder_starts_and_says_so(tmp_path: Path) -> None:
    messages: list[str] = []
    observer = Observer(on_message=messages.append)
    run = train_quickly(SMALL_RUN, {"outer.num_steps": 1}, tmp_path / "run", resume=True, observer=observer)
    assert run.summary["steps"] == 1
    assert any("starting afresh" in message for message in messages)
