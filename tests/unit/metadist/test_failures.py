"""What a group's errors become: the exit code, the tasks, and a replay line that says what to replay."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import (
    AddressRefused,
    ClusterError,
    ClusterUnavailable,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
    WorkerStartFailed,
)
from metadist.failures import ShardDataError, exit_code_of, replay_line, translated
from metadist.replay import replay_shard
from metadist.tasks import Shard, plan_evaluation, plan_step
from tests.support.quick import SMALL_RUN, train_quickly

TRAIN = plan_step(417, meta_batch_size=8, shard_size=2)[3]
FIXED = plan_evaluation("validation", 200, num_tasks=5, shard_size=2)[1]


def failed(shard: Shard, error_type: str, message: str = "why") -> ShardFailed:
    return ShardFailed(
        version=shard.step,
        index=shard.index,
        describe=shard.describe(),
        error_type=error_type,
        message=message,
        remote_traceback="Traceback ...",
        worker="w3",
    )


LOST: dict[str, Any] = {"restarts": 1, "window_s": 1.0, "last_reason": "killed"}
ERRORS: list[tuple[ClusterError, int, str]] = [
    (
        failed(TRAIN, "ValueError"),
        70,
        "train shard 3 of step 417, tasks train/417/6..7 raised ValueError in worker w3: why",
    ),
    (failed(TRAIN, "tasks_store.errors.CorruptStore"), 65, "train shard 3 of step 417, tasks train/417/6..7: why"),
    (failed(TRAIN, "metadist.errors.NonFiniteGradient", "at step 417"), 65, "at step 417 [replay: metadist replay"),
    (
        ShardPoisoned(version=417, index=3, describe=TRAIN.describe(), attempts=3, reasons=("killed",)),
        69,
        "replay it here: metadist replay",
    ),
    (ClusterUnavailable(address="there", reason="no", auth_mode=None), 69, "no Ray cluster at 'there'"),
    (AddressRefused("the Ray address must be"), 78, "the Ray address"),
    (WorkersLost(alive=0, needed=1, **LOST), 69, "killed"),
    (WorkerStartFailed(worker="w3", error_type="ValueError", message="why", remote_traceback=""), 70, "worker w3"),
    (WorkerStartFailed(worker="w3", error_type="a.StoreMissing", message="why", remote_traceback=""), 65, "worker w3"),
    (WorkerStartFailed(worker="w3", error_type="a.ConfigError", message="why", remote_traceback=""), 78, "w3 cannot"),
    (failed(TRAIN, "ModuleNotFoundError"), 78, "--working-dir DIR sends"),
]


@pytest.mark.parametrize(("error", "code", "words"), ERRORS, ids=lambda value: type(value).__name__)
def test_the_code_and_the_words(error: ClusterError, code: int, words: str) -> None:
    with pytest.raises(Exception) as raised, translated(Path("run")):  # its code is what counts
        raise error
    assert exit_code_of(raised.value) == code and words in str(raised.value)
    assert raised.value.__cause__ is error
    assert isinstance(raised.value, ShardDataError) == (code == 65)


def test_the_replay_line_is_a_shell_command() -> None:
    line = replay_line(Path("my runs/run"), failed(TRAIN, "ValueError"))
    assert shlex.split(line) == ["metadist", "replay", "my runs/run", "--step", "417", "--shard", "3"]
    line = replay_line(Path("run"), failed(FIXED, "ValueError"))
    assert line == "metadist replay run --step 200 --shard 1 --split validation"


def test_a_shard_of_an_evaluation_is_replayed_with_the_figures_of_the_run(tmp_path: Path) -> None:
    """Four validation tasks in two shards: their mean is the journalled one."""
    run = train_quickly(SMALL_RUN, {}, tmp_path / "run")
    parts = [
        replay_shard(run.run_dir, step=10, shard=shard, split="validation", on_message=lambda message: None)
        for shard in (0, 1)
    ]
    assert parts[1]["tasks"] == ["validation/fixed/2", "validation/fixed/3"]
    (figure,) = (row["validation/mse"] for row in run.metrics() if row["step"] == 10 and "validation/mse" in row)
    assert np.mean([part["mse"] for part in parts]) == pytest.approx(figure, rel=1e-6)
