"""One driver a run folder: who may take it, and who finds out that it was taken."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from metadist.errors import OwnershipLost, RunFolderBusy
from metadist.folder import ownership
from metadist.folder.ownership import Record, may_take, owned, read_owner

OWNER = Record(epoch=3, pid=1, host="here", lease_s=60.0)


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with owned(tmp_path / "new"):
        with pytest.raises(RunFolderBusy, match=rf"pid {os.getpid()} on"), owned(tmp_path / "new"):
            pass
        assert json.loads((tmp_path / "new" / "owner.json").read_text())["pid"] == os.getpid()
    with owned(tmp_path / "new"):
        pass


def test_another_process_is_an_owner_until_it_dies(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from metadist.folder.ownership import owned\n"
        f"with owned(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    root = str(Path(ownership.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == b"held"
        with pytest.raises(RunFolderBusy, match=f"pid {process.pid}"), owned(tmp_path):
            pass
        process.kill()
        process.wait()
    with owned(tmp_path):
        pass


@pytest.mark.parametrize(
    ("is_locked", "same_host", "age_s", "free"),
    [
        (True, True, 1.0, False),
        (True, True, 61.0, True),  # it hangs
        (False, True, 1.0, True),  # it died
        (False, False, 1.0, False),  # locks of another machine need not be seen here
        (False, False, 61.0, True),
        (None, True, 1.0, False),  # no locks on this file system
        (None, True, 61.0, True),
    ],
)
def test_who_may_take(is_locked: bool | None, same_host: bool, age_s: float, free: bool) -> None:
    assert may_take(OWNER, is_locked=is_locked, same_host=same_host, age_s=age_s) is free


def test_what_nobody_has_is_free() -> None:
    released = Record(epoch=3, pid=1, host="here", lease_s=60.0, released=True)
    assert may_take(None, is_locked=True, same_host=True, age_s=0.0)
    assert may_take(released, is_locked=True, same_host=True, age_s=0.0)


def test_epochs_grow_and_the_old_owner_finds_out(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("a line\n")
    with owned(tmp_path, lease_s=3600) as first:
        os.utime(tmp_path / "owner.json", (0, 0))  # as if it had been silent since 1970
        with (tmp_path / "journal.jsonl").open("a") as old_journal, owned(tmp_path, lease_s=3600) as second:
            assert (first.record.epoch, second.record.epoch) == (1, 2)
            second.check()
            with pytest.raises(OwnershipLost, match=r"taken over by pid \d+ on .* \(epoch 2\)"):
                first.check()
            old_journal.write("from the grave\n")
    assert (tmp_path / "journal.jsonl").read_text() == "a line\n"
    last = read_owner(tmp_path)
    assert last is not None and last.epoch == 2 and last.released
    with owned(tmp_path) as third:
        assert third.record.epoch == 3


def test_the_heart_beats(tmp_path: Path) -> None:
    with owned(tmp_path, lease_s=0.3) as owner:
        os.utime(tmp_path / "owner.json", (0, 0))
        for _ in range(100):
            if (tmp_path / "owner.json").stat().st_mtime > 0:
                break
            owner._stop.wait(0.05)
        assert (tmp_path / "owner.json").stat().st_mtime > 0


def test_two_that_take_the_same_epoch(tmp_path: Path) -> None:
    """The file of the epoch is there and locked, its maker just not the owner yet."""
    record = Record(epoch=1, pid=os.getpid(), host="here", lease_s=60.0)
    with ownership._claim(tmp_path, record), pytest.raises(RunFolderBusy, match="at this moment"), owned(tmp_path):
        pass


def test_the_heart_goes_on_after_a_disk_that_did_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten, failures = threading.Event(), [OSError(errno.ESTALE, "stale")] * 3

    def utime(path: Path, *times: Any, **options: Any) -> None:
        if path.name == "owner.json" and failures:
            raise failures.pop()
        os_utime(path, *times, **options)
        if path.name == "owner.json":
            beaten.set()

    os_utime = os.utime
    monkeypatch.setattr(ownership.os, "utime", utime)
    with owned(tmp_path, lease_s=0.3):
        assert beaten.wait(20) and not failures


def test_a_silent_driver_is_not_robbed_by_who_only_tells(tmp_path: Path) -> None:
    with owned(tmp_path, lease_s=3600) as first:
        os.utime(tmp_path / "owner.json", (0, 0))
        with pytest.raises(RunFolderBusy), owned(tmp_path, from_silent=False):
            pass
        first.check()
    with owned(tmp_path, from_silent=False):
        pass
