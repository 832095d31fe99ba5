"""One driver a run folder: an epoch that only grows, a heartbeat, and a lease.

```
RUN/owner.json   epoch, pid, host, lease of the driver at work; its modification time is the heartbeat
RUN/.owner-N     made by whoever takes epoch N, and locked by the kernel for as long as that process lives
```
A driver that died on this machine is known at once by its lock; one on another machine, or one that hangs, by a
heartbeat older than its lease. Whoever takes over puts a copy in the journal's place: the hung driver holds the
old file open, and what it may still write goes nowhere. The right to send to MLflow is taken from it as well. It
finds a greater epoch at its next step and ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from metadist.durable import write_atomically
from metadist.errors import OwnershipLost, RunFolderBusy
from metadist.tracking import JOURNAL_NAME, break_send_lock

OWNER = "owner.json"
BEATS_A_LEASE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Who owns a folder.

    Attributes:
        epoch: Grows with every driver.
        pid, host: The process.
        lease_s: Seconds without a heartbeat after which another driver may take over.
        released: It ended in order.
    """

    epoch: int
    pid: int
    host: str
    lease_s: float
    released: bool = False


def may_take(record: Record | None, *, is_locked: bool | None, same_host: bool, age_s: float) -> bool:
    """Whether the folder is free for another driver.

    Args:
        record: Its last owner; None where it never had one.
        is_locked: Whether that owner's lock is held; None where the file system knows no locks.
        same_host: Whether it ran on this machine.
        age_s: Seconds since its last heartbeat.
    """
    if record is None or record.released or age_s > record.lease_s:
        return True
    return same_host and is_locked is False


class Owner:
    """The right to write in a run folder, for as long as nobody else has taken it."""

    def __init__(self, run_dir: Path, record: Record) -> None:
        self.run_dir, self.record = run_dir, record
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="owner-heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Call before anything is published.

        Raises:
            OwnershipLost: another driver has taken the folder over.
        """
        now = read_owner(self.run_dir)
        if now is None or now.epoch != self.record.epoch:
            by = f"by pid {now.pid} on {now.host} (epoch {now.epoch})" if now else "and removed"
            raise OwnershipLost(
                f"{self.run_dir} was taken over {by} while this driver (epoch {self.record.epoch}) did not answer "
                f"for over {self.record.lease_s:g} s; the other one goes on, nothing more is written here"
            )

    def release(self) -> None:
        """End in order, if the folder is still ours."""
        self._stop.set()
        self._thread.join()
        with suppress(OwnershipLost, OSError):  # unreleased, the lock still dies with this process
            self.check()
            _publish(self.run_dir, replace(self.record, released=True))

    def _beat(self) -> None:
        while not self._stop.wait(self.record.lease_s / BEATS_A_LEASE):
            try:
                self.check()
                os.utime(self.run_dir / OWNER)
            except OwnershipLost:  # the driver itself finds out before it publishes
                return
            except OSError:  # a network disk that does not answer now may answer the next time
                continue


@contextmanager
def owned(run_dir: Path, lease_s: float = 60.0, *, from_silent: bool = True) -> Iterator[Owner]:
    """Own the folder for as long as the block lasts; ``from_silent``: take it from a driver that does not answer, too.

    Raises:
        RunFolderBusy: a living driver owns it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    last = read_owner(run_dir)
    age = _age(run_dir) if from_silent else 0.0
    if not may_take(last, is_locked=_locked(run_dir, last), same_host=_is_here(last), age_s=age):
        raise RunFolderBusy(f"{run_dir} is in use by a living driver {_who(last)}; wait, or stop it")
    record = Record(epoch=last.epoch + 1 if last else 1, pid=os.getpid(), host=socket.gethostname(), lease_s=lease_s)
    with _claim(run_dir, record):
        if last is not None and not last.released:
            _fence(run_dir)
        _publish(run_dir, record)
        for path in run_dir.glob(".owner-*"):
            if path != _lock_path(run_dir, record.epoch):
                path.unlink(missing_ok=True)
        owner = Owner(run_dir, record)
        try:
            yield owner
        finally:
            owner.release()


def read_owner(run_dir: Path) -> Record | None:
    """The folder's last owner; None where it never had one."""
    try:
        return Record(**json.loads((run_dir / OWNER).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _publish(run_dir: Path, record: Record) -> None:
    temporary = run_dir / f".{OWNER}.{record.epoch}"
    temporary.write_text(json.dumps(asdict(record)))
    os.replace(temporary, run_dir / OWNER)


@contextmanager
def _claim(run_dir: Path, record: Record) -> Iterator[IO[str]]:
    """Make the epoch's file, which only one process can, and lock it until the block ends."""
    path = _lock_path(run_dir, record.epoch)
    busy = RunFolderBusy(f"{run_dir} is being taken by another driver at this moment; wait, or stop it")
    try:
        file = path.open("x")
    except FileExistsError:
        if _locked(run_dir, record) is not False:
            raise busy from None
        file = path.open("a")  # its maker died before it became the owner
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a file system without locks: the lease alone decides
            pass
        yield file


def _locked(run_dir: Path, record: Record | None) -> bool | None:
    """Whether the owner's process holds its lock; None where that cannot be known."""
    if record is None:
        return False
    try:
        with _lock_path(run_dir, record.epoch).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _age(run_dir: Path) -> float:
    """Seconds since the last heartbeat, both times by the clock of the folder's file system."""
    probe = run_dir / f".now-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime - (run_dir / OWNER).stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _fence(run_dir: Path) -> None:
    """Give the journal a new file, and sending a new lock: a driver that hangs holds the old ones."""
    break_send_lock(run_dir)
    journal = run_dir / JOURNAL_NAME
    if journal.exists():
        write_atomically(journal, journal.read_bytes())


def _lock_path(run_dir: Path, epoch: int) -> Path:
    return run_dir / f".owner-{epoch}"


def _is_here(record: Record | None) -> bool:
    return record is not None and record.host == socket.gethostname()


def _who(record: Record | None) -> str:
    return f"(pid {record.pid} on {record.host})" if record else ""
