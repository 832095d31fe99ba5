"""The journal: what is written is read back, and what a crash tears is cut off and said."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadist.tracking import (
    Journal,
    JournalCorrupt,
    JournalMissing,
    JournalOffsetInvalid,
    JournalWriteFailed,
)
from metadist.tracking.events import JOURNAL_NAME, decode, encode, read_events
from metadist.tracking.state import load_rolled_back


def test_every_kind_is_read_back(tmp_path: Path, clock: Callable[[], int]) -> None:
    with Journal(tmp_path / "run", clock=clock) as journal:
        journal.config({"outer": {"lr": 0.1}})
        journal.params({"num_params": 3})
        journal.tags({"note": "x"})
        journal.metrics(7, {"train/query_loss": 1.5})
        journal.event("worker_lost", step=7, worker=1, reason="killed")
        journal.dataset(name="omniglot", digest="abc", source="/data")
        journal.artifact("plots/curve.png", folder="plots", step=7)
        journal.status("FINISHED")
        position = journal.position()
    events = list(read_events(tmp_path / "run"))
    assert [event.kind for event in events] == [
        "config", "params", "tags", "metrics", "event", "dataset", "artifact", "status",
    ]  # fmt: skip
    assert [event.time for event in events] == list(range(1000, 1008))
    assert [event.step for event in events] == [None, None, None, 7, 7, None, 7, None]
    assert events[4].data == {"name": "worker_lost", "worker": 1, "reason": "killed"}
    assert events[6].data == {"path": "plots/curve.png", "folder": "plots"}
    assert events[-1].end == position == (tmp_path / "run" / JOURNAL_NAME).stat().st_size


@given(st.floats(), st.integers(0, 2**40))
def test_metrics_round_trip(value: float, step: int) -> None:
    line = encode("metrics", 1, step, {"loss": value if math.isfinite(value) else str(value)})
    if math.isfinite(value):
        assert decode(line, 0).data["loss"] == value


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_non_finite_numbers_are_spelt_out(tmp_path: Path, value: float, text: str) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": value})
        journal.event("non_finite", value=value, nested={"values": [1.0, value]})
    first, second = (json.loads(line) for line in (tmp_path / JOURNAL_NAME).read_text().splitlines())
    assert first["data"] == {"loss": text}
    assert second["data"] == {"name": "non_finite", "value": text, "nested": {"values": [1.0, text]}}
    read = next(read_events(tmp_path)).data["loss"]
    assert repr(read) == repr(value)


def test_numpy_scalars_and_paths_are_written(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": np.float32(0.5)})
        journal.event("checkpoint", path=Path("/a/b"), step_taken=np.int64(3), losses=(np.float64(1.5),))
    events = list(read_events(tmp_path))
    assert events[0].data == {"loss": 0.5}
    assert events[1].data == {"name": "checkpoint", "path": "/a/b", "step_taken": 3, "losses": [1.5]}


def test_what_has_no_json_form_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(TypeError, match="ndarray has no JSON form"):
        journal.event("gradient", value=np.zeros(3))
    assert (tmp_path / JOURNAL_NAME).read_bytes() == b""


def test_unknown_kind_and_status_are_errors(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="metric"):
            journal.append("metric", {})
        with pytest.raises(ValueError, match="DONE"):
            journal.status("DONE")


def test_an_artifact_lies_in_the_run_folder(tmp_path: Path) -> None:
    with Journal(tmp_path / "run") as journal:
        with pytest.raises(ValueError, match="subpath"):
            journal.artifact(tmp_path / "elsewhere.png")
        journal.artifact(tmp_path / "run" / "plot.png")
    assert next(read_events(tmp_path / "run")).data["path"] == "plot.png"


@pytest.mark.parametrize(
    "torn", [b'{"kind":"metr', b"\0" * 5000, b"\0\0\0\n", b'{"kind":"metrics","time":1}\n', b"[" * 70_000]
)
def test_a_torn_last_line_is_cut_off_and_journalled(tmp_path: Path, torn: bytes) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        whole = journal.position()
    with (tmp_path / JOURNAL_NAME).open("ab") as file:
        file.write(torn)
    with Journal(tmp_path) as journal:
        journal.metrics(1, {"loss": 0.5})
    first, dropped, last = read_events(tmp_path)
    assert (first.step, last.step) == (0, 1)
    assert dropped.data == {"name": "journal_tail_dropped", "bytes": len(torn), "offset": whole}


def test_a_journal_that_is_only_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b'{"kind"')
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
    assert [event.kind for event in read_events(tmp_path)] == ["event", "metrics"]


def test_reading_stops_before_a_line_that_is_being_written(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(encode("status", 1, None, {"status": "RUNNING"}) + b'{"kind":"sta')
    assert [event.kind for event in read_events(tmp_path)] == ["status"]


def test_damage_in_the_middle_is_an_error_that_names_the_byte(tmp_path: Path) -> None:
    line = encode("metrics", 1, 0, {"loss": 1.0})
    (tmp_path / JOURNAL_NAME).write_bytes(line + b"garbage\n" + line)
    with pytest.raises(JournalCorrupt, match=f"byte {len(line)} ") as caught:
        list(read_events(tmp_path))
    assert caught.value.offset == len(line)


def test_truncate_drops_later_events_and_goes_on_from_there(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        kept = journal.position()
        journal.metrics(1, {"loss": 0.5})
        journal.truncate_to(kept)
        assert journal.position() == kept
        journal.metrics(1, {"loss": 0.25})
    assert [event.data["loss"] for event in read_events(tmp_path)] == [1.0, 0.25]
    assert [event.data["loss"] for event in read_events(tmp_path, kept)] == [0.25]


def test_what_is_dropped_may_be_damaged(tmp_path: Path) -> None:
    """Behind the last checkpoint nothing waited for the disk: a power failure may leave anything there."""
    (tmp_path / "mlflow.json").write_text("{}")  # a mirror ran
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        kept = journal.position()
        journal.metrics(1, {"loss": 0.5})
    with (tmp_path / JOURNAL_NAME).open("ab") as file:
        file.write(b"\0" * 20 + b"\n" + encode("metrics", 1, 2, {"loss": 0.25}))
    assert [event.step for event in read_events(tmp_path, stop=kept)] == [0]
    with Journal(tmp_path) as journal:
        journal.truncate_to(kept)
    assert [event.step for event in read_events(tmp_path)] == [0]
    assert [step for _, step, _ in load_rolled_back(tmp_path)] == [1]


@pytest.mark.parametrize("offset", [-1, 5, 10_000])
def test_truncate_and_read_refuse_an_offset_inside_a_line(tmp_path: Path, offset: int) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        size = journal.position()
        with pytest.raises(JournalOffsetInvalid, match=f"byte {offset} .*{size} bytes"):
            journal.truncate_to(offset)
        with pytest.raises(JournalOffsetInvalid):
            list(read_events(tmp_path, offset))
        assert journal.position() == size


def test_reading_no_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JournalMissing, match="not a run folder"):
        list(read_events(tmp_path))


def test_a_short_write_leaves_the_line_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.metrics(0, {"loss": 1.0})
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, line: write(file, line[:5]))
        with pytest.raises(JournalWriteFailed, match="5 of"):
            journal.metrics(1, {"loss": 0.5})
    journal.metrics(2, {"loss": 0.25})
    journal.close()
    journal.close()
    assert [event.step for event in read_events(tmp_path)] == [0, 2]


def test_threads_may_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        threads = [
            threading.Thread(target=lambda: [journal.metrics(step, {"a": 1.0}) for step in range(200)])
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.position() == (tmp_path / JOURNAL_NAME).stat().st_size
    assert sorted(event.step or 0 for event in read_events(tmp_path)) == sorted(list(range(200)) * 3)


def test_kill_9_leaves_whole_lines(tmp_path: Path) -> None:
    program = (
        "import sys, itertools\n"
        "from metadist.tracking import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "for step in itertools.count():\n"
        "    journal.metrics(step, {'loss': step / 7})\n"
        "    if step == 500: sys.stdout.write('x'); sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGKILL)
    process.wait()
    with Journal(tmp_path):
        steps = [event.step for event in read_events(tmp_path) if event.kind == "metrics"]
    assert len(steps) > 500
    assert steps == list(range(len(steps)))
