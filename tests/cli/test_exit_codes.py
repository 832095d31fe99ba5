"""Every exit code of the contract, and which of them mark a run folder as failed for good.

Most rows run the command line in this process, since importing it costs seconds; signals and an absent cluster need a
process of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from metadist.errors import ConfigError, MetadistError, OwnershipLost, ServiceAway
from metadist.failures import exit_code_of
from metadist.folder.failed import is_permanent, marked, read_mark
from metadist.folder.ownership import owned
from metadist.interruption import Terminated
from metadist.tracking import JournalWriteFailed
from tasks_store import TaskStoreError
from tests.cli.tiny import RECIPE, Answer, Call
from tests.support.models import picky_about

AWAY = "tracking.uri=http://127.0.0.1:9"
TOO_FAST = ("algorithm.inner_lr=1.0e+38", "algorithm.inner_steps=4")


@dataclass(frozen=True)
class Row:
    """A way to end: options of ``metadist train RECIPE --run-dir run``, and what they lead to."""

    code: int
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    recipe: str = "tiny.yaml"
    marked: bool = False


ROWS = {
    "done": Row(0),
    "done, nothing to resume": Row(0, options=("--resume",)),
    "dry run": Row(0, options=("--dry-run",)),
    "unknown option": Row(2, options=("--fast",)),
    "accept without resume": Row(2, options=("--accept", "outer.lr")),
    "accept of an unknown key": Row(2, options=("--resume", "--accept", "outer.rl")),
    "no such store": Row(65, ("tasks.path=./nowhere",)),
    "gradient not finite": Row(65, TOO_FAST, marked=True),
    "every task dropped": Row(65, (*TOO_FAST, "outer.on_nonfinite=drop"), marked=True),
    "no tracking server, required": Row(69, (AWAY, "tracking.required=true")),
    "the user's net raises": Row(70, recipe="picky.yaml", marked=True),
    "no tracking server": Row(76, (AWAY,)),
    "unknown key": Row(78, ("outer.nun_steps=3",)),
    "unknown recipe": Row(78, recipe="nowhere.yaml"),
}


@pytest.fixture
def picky(workplace: Path) -> Path:
    """``picky.yaml``: its net raises on a task of step 3, until the file ``mended`` is there."""
    recipe = picky_about(RECIPE, str(workplace / "store"), step=3, index=2, unless=str(workplace / "mended"))
    (workplace / "picky.yaml").write_text(yaml.safe_dump(recipe))
    return workplace


def train(call: Call, row: Row, *more: str) -> Answer:
    settings = [part for setting in row.settings for part in ("--set", setting)]
    return call("train", row.recipe, "--run-dir", "run", *row.options, *settings, *more)


@pytest.mark.parametrize("name", ROWS)
def test_the_code_and_the_mark(name: str, call: Call, picky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that failed for good is not started again by ``--resume``, and says so with the same code."""
    monkeypatch.setattr("metadist.run.DRAIN_S", 0.5)
    row = ROWS[name]
    answer = train(call, row)
    assert answer.code == row.code, answer.err
    assert "Traceback" not in answer.err or row.code == 70  # a user's own error comes with the worker's traceback
    mark = read_mark(picky / "run")
    assert (mark is not None) == row.marked
    if mark is not None:
        assert mark["exit_code"] == row.code and mark["message"] in answer.err
        journal = (picky / "run" / "journal.jsonl").read_bytes()
        again = train(call, row, "--resume")
        assert again.code == row.code and "failed for good" in again.error and "--retry" in again.error
        assert (picky / "run" / "journal.jsonl").read_bytes() == journal


def test_all_codes_are_here() -> None:
    elsewhere = {75, 130}  # signals, below
    assert {row.code for row in ROWS.values()} | elsewhere == {0, 2, 65, 69, 70, 75, 76, 78, 130}


def test_a_failure_that_was_mended_goes_on_with_retry(call: Call, picky: Path) -> None:
    (picky / "mended").touch()
    whole = call("train", "picky.yaml", "--run-dir", "whole", "--json")
    (picky / "mended").unlink()
    row = ROWS["the user's net raises"]
    assert train(call, row).code == 70
    assert train(call, row, "--retry").code == 70, "not mended yet"
    assert train(call, row, "--resume").code == 70
    (picky / "mended").touch()
    assert "failed for good" in train(call, row, "--resume").error
    done = train(call, row, "--retry", "--json")
    assert done.code == 0 and "from step 3" in done.err and read_mark(picky / "run") is None
    assert done.json["params_sha256"] == whole.json["params_sha256"]
    assert train(call, row, "--resume").code == 0


def test_a_setting_that_was_wrong_is_mended_with_retry_and_accept(call: Call, workplace: Path) -> None:
    assert train(call, ROWS["gradient not finite"]).code == 65
    refused = train(call, Row(78), "--retry")
    # Fewer inner steps are unrolled, so the way back differs with them.
    wrong = "--accept algorithm.gradient,algorithm.inner_lr,algorithm.inner_steps"
    assert refused.code == 78 and wrong in refused.error
    assert read_mark(workplace / "run") is not None, "nothing began, so the mark stays"
    names = refused.error.split("--accept ")[1].split(" ")[0]
    done = train(call, Row(0), "--retry", "--accept", names)
    assert done.code == 0 and read_mark(workplace / "run") is None


def test_refusals_before_the_run_do_not_mark_a_healthy_folder(call: Call, workplace: Path) -> None:
    assert call("train", "tiny.yaml", "--run-dir", "run", "--set", "outer.num_steps=4").code == 0
    refusals = {
        "outer.lr=0.5": 78,
        "outer.num_steps=2": 78,
        "tasks.ways=40": 65,
        "tasks.path=./nowhere": 65,
        "model.options={wide: 3}": 78,
    }
    for setting, code in refusals.items():
        answer = call("train", "tiny.yaml", "--run-dir", "run", "--resume", "--set", setting)
        assert answer.code == code, answer.err
        assert read_mark(workplace / "run") is None
    assert call("train", "tiny.yaml", "--run-dir", "run", "--resume").code == 0


def test_a_mark_that_cannot_be_read_says_what_to_do(call: Call, workplace: Path) -> None:
    assert call("train", "tiny.yaml", "--run-dir", "run").code == 0
    (workplace / "run" / "failed.json").write_text("{")
    answer = call("train", "tiny.yaml", "--run-dir", "run", "--resume")
    assert answer.code == 65 and "remove it" in answer.error


ERRORS: dict[BaseException, tuple[int, bool]] = {
    MetadistError("a bug"): (70, True),
    ValueError("a bug"): (70, True),
    ConfigError("no"): (78, True),
    TaskStoreError("damaged"): (65, True),
    OSError("no space left"): (70, False),
    MemoryError(): (70, False),
    JournalWriteFailed("journal", "no space left"): (69, False),
    ServiceAway("no cluster"): (69, False),
    OwnershipLost("another driver"): (75, False),
    KeyboardInterrupt(): (130, False),
    Terminated(): (75, False),
}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_the_same_command_would_meet_again_is_permanent(error: BaseException, tmp_path: Path) -> None:
    assert (exit_code_of(error), is_permanent(error)) == ERRORS[error]
    with pytest.raises(type(error)), marked(tmp_path, lambda: None, print):
        raise error
    assert (read_mark(tmp_path) is not None) == ERRORS[error][1]


def test_a_driver_that_lost_the_folder_does_not_mark_it(tmp_path: Path) -> None:
    def lost() -> None:
        raise OwnershipLost("another driver")

    with pytest.raises(ValueError, match="late"), marked(tmp_path, lost, print):
        raise ValueError("late")
    assert read_mark(tmp_path) is None


def test_a_run_folder_of_a_living_driver(call: Call, workplace: Path) -> None:
    with owned(workplace / "run"):
        answer = call("train", "tiny.yaml", "--run-dir", "run")
    assert answer.code == 75 and "in use by a living driver" in answer.error


def test_no_cluster_at_the_address(workplace: Path) -> None:
    """In a process of its own: where a Ray is already joined, its address is not asked again."""
    where = ["--set", "cluster.backend=ray", "--set", "cluster.address=127.0.0.1:9"]
    command = [sys.executable, "-m", "metadist", "train", "tiny.yaml", "--run-dir", "run", *where]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 69, done.stderr
    assert "127.0.0.1:9" in done.stderr and "RAY_AUTH_MODE" in done.stderr and "Traceback" not in done.stderr


STARTS = {"local": "building", "ray": "tasks = "}  # what is said while the net is built, and before workers start


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.laws]), "local"])
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.laws)])
def test_a_signal_before_the_first_step_ends_it_at_once(workplace: Path, number: int, backend: str) -> None:
    """Here the net's factory never returns; with Ray the workers take seconds to start."""
    (workplace / "slow.py").write_text(
        "import sys, threading\nfrom torch import nn\ndef build(spec, wait):\n"
        "    if wait:\n        print('building', file=sys.stderr, flush=True)\n        threading.Event().wait(250)\n"
        "    return nn.Linear(5, spec.outputs)\n"
    )
    recipe = {**RECIPE, "model": {"factory": "slow:build", "options": {"wait": backend == "local"}}}
    (workplace / "slow.yaml").write_text(yaml.safe_dump({**recipe, "cluster": {"backend": backend, "num_workers": 1}}))
    command = [sys.executable, "-m", "metadist", "train", "slow.yaml", "--run-dir", "run"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if STARTS[backend] in line:
                process.send_signal(number)
                break
        said.append(process.stderr.read())
        code = process.wait()
    assert code == (130 if number == signal.SIGINT else 75), said
    assert "interrupted; nothing that was whole is lost" in said[-1] and "Traceback" not in said[-1]
    assert read_mark(workplace / "run") is None


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.laws), signal.SIGTERM])
def test_an_interrupted_run_is_whole_and_goes_on(call: Call, workplace: Path, number: signal.Signals) -> None:
    """A real process, a real signal: the checkpoint is written, --resume gives the bits of an undisturbed run."""
    whole = call("train", "tiny.yaml", "--run-dir", "whole", "--json", "--set", "outer.num_steps=18")
    command = [sys.executable, "-m", "metadist", "train", "tiny.yaml", "--run-dir", "cut"]
    options = ["--set", "outer.num_steps=18"]
    with subprocess.Popen([*command, *options], cwd=workplace, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("validation at step 9:"):
                process.send_signal(number)
                break
        rest = process.stderr.read()
        code = process.wait()
    assert code == (130 if number == signal.SIGINT else 75), rest
    assert "the checkpoint is whole, --resume goes on" in rest and "Traceback" not in rest
    resumed = call("train", "tiny.yaml", "--run-dir", "cut", "--resume", "--json", *options)
    assert resumed.code == 0 and "resuming" in resumed.err
    assert resumed.json["params_sha256"] == whole.json["params_sha256"]
