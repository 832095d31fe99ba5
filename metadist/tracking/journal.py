"""The journal: what happened in a run, one JSON line an event, appended and never edited. It is the truth.

A line is one ``os.write`` on a file opened for appending, so a process killed at any instant leaves whole
lines (the kernel has them) and nothing waits for the disk; `Journal.sync`, which a checkpoint calls, does
wait. After a power failure or on a full disk the last line may be torn: opening cuts it off and journals that
it did.

Everything else (MLflow, plots, reports) is made from this file and can be made again.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metadist.tracking.errors import JournalWriteFailed
from metadist.tracking.events import JOURNAL_NAME, check_offset, decode, encode, spell
from metadist.tracking.state import keep_rolled_back, limit_acknowledged

_TAIL_BYTES = 1 << 16


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """The appending side of a run folder's ``journal.jsonl``. Threads may share one; two processes may not.

    Args:
        run_dir: The run folder; it is made if it is missing.
        clock: Milliseconds since 1970; tests give their own.

    Raises:
        JournalWriteFailed: The disk does not let it be opened, or a torn end be cut off.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Journal(folder, clock=lambda: 5) as journal:
        ...     journal.metrics(0, {"train/query_loss": 1.5})
        ...     journal.position()
        69
    """

    def __init__(self, run_dir: str | Path, *, clock: Callable[[], int] = _milliseconds) -> None:
        self.run_dir = Path(run_dir).absolute()
        self.path = self.run_dir / JOURNAL_NAME
        self._clock = clock
        self._lock = threading.Lock()
        with self._written():
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            whole, size = whole_length(self._file)
        self._end = whole
        self._torn = whole < size
        if self._torn:  # the next line cuts it off
            self.event("journal_tail_dropped", bytes=size - whole, offset=whole)

    def append(self, kind: str, data: Mapping[str, Any], *, step: int | None = None) -> None:
        """Write one event. The named methods below say what each kind holds.

        Raises:
            JournalWriteFailed: The disk did not take the line; the journal ends with the one before.
        """
        line = encode(kind, self._clock(), step, data)
        with self._lock, self._written():
            if self._torn:
                os.ftruncate(self._file, self._end)
            self._torn = True
            try:
                written = os.write(self._file, line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written")
            except OSError:
                with suppress(OSError):  # then the next line, or the next opening, cuts it off
                    os.ftruncate(self._file, self._end)
                    self._torn = False
                raise
            self._torn = False
            self._end += written

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one outer step, NaN and infinities included."""
        self.append("metrics", {name: spell(float(value)) for name, value in values.items()}, step=step)

    def config(self, config: Mapping[str, Any]) -> None:
        """The resolved configuration, nested; MLflow gets it flattened, as params."""
        self.append("config", config)

    def params(self, values: Mapping[str, Any]) -> None:
        """Further facts that are set once a run, flat."""
        self.append("params", values)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Facts that may be set again; the last one holds."""
        self.append("tags", values)

    def event(self, name: str, *, step: int | None = None, **detail: Any) -> None:
        """Something that happened (a worker lost, a shard issued again); MLflow does not get it."""
        self.append("event", {"name": name, **detail}, step=step)

    def dataset(self, *, name: str, digest: str, source: str, context: str = "training") -> None:
        """A task store that the run reads: its name, fingerprint and place."""
        self.append("dataset", {"name": name, "digest": digest, "source": source, "context": context})

    def artifact(self, path: str | Path, *, folder: str = "", step: int | None = None) -> None:
        """A file or directory that is to be copied to MLflow.

        Args:
            path: It, inside the run folder (kept relative, so that the folder may be moved).
            folder: The artifact folder it goes to; the root when empty.

        Raises:
            ValueError: The path is not inside the run folder.
        """
        relative = (self.run_dir / path).relative_to(self.run_dir)
        self.append("artifact", {"path": str(relative), "folder": folder}, step=step)

    def status(self, status: str) -> None:
        """RUNNING when the run starts or is resumed; FINISHED, FAILED or KILLED when it ends."""
        if status not in ("RUNNING", "FINISHED", "FAILED", "KILLED"):
            raise ValueError(f"the status {status!r} is none of RUNNING, FINISHED, FAILED, KILLED")
        self.append("status", {"status": status})

    def position(self) -> int:
        """The byte offset at which the next event will begin; a checkpoint keeps it."""
        return self._end

    def truncate_to(self, offset: int) -> None:
        """Drop every event from this offset on, as if it had never happened. Resume does so.

        What MLflow may have been sent of the dropped part is remembered, so that the steps that are now
        computed again arrive there once. No mirror may be running.

        Raises:
            JournalOffsetInvalid: No line begins at ``offset``.
            JournalWriteFailed, SaveFailed: The disk did not take it; doing it again is allowed.
        """
        with self._lock:
            check_offset(self.path, offset)
            if offset == self._end:
                return
            keep_rolled_back(self.run_dir, offset)
            limit_acknowledged(self.run_dir, offset)
            with self._written():
                os.ftruncate(self._file, offset)
                self._end = offset
                os.fsync(self._file)

    def sync(self) -> None:
        """Wait until every event written so far is on the disk.

        Raises:
            JournalWriteFailed: It is not, and may never be; a second try would not find out.
        """
        with self._written():
            os.fsync(self._file)

    def close(self) -> None:
        """Sync and close. Closing twice is allowed.

        Raises:
            JournalWriteFailed: It is closed, but what was written last may not be on the disk.
        """
        with self._lock:
            if self._file >= 0:
                try:
                    with self._written():
                        os.fsync(self._file)
                finally:
                    os.close(self._file)
                    self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except JournalWriteFailed:
            if error is None:  # else that one is the one to report
                raise

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalWriteFailed(str(self.path), error.strerror or str(error)) from error


def whole_length(file: int) -> tuple[int, int]:
    """How many bytes of the open journal are whole lines, and how many it has.

    Only the end can be torn: a last line without a newline, or (after a power failure) one that is not an
    event.
    """
    size = os.fstat(file).st_size
    start, tail = size, b""
    while start > 0 and tail.count(b"\n") < 2:  # far enough to see the whole last line that has a newline
        step = min(_TAIL_BYTES, start)
        start -= step
        tail = os.pread(file, step, start) + tail
    whole = start + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
    if whole > 0:
        last = tail[: whole - start - 1].rpartition(b"\n")[2]
        try:
            decode(last, whole)
        except (ValueError, KeyError):
            whole -= len(last) + 1
    return whole, size
