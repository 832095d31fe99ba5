"""One sender a run folder: a lock on a file that a driver which takes the folder over may remove.

The kernel keeps a lock for as long as its process lives, so that of a stopped or hung driver would keep its
successor from sending. The successor removes the file and locks a new one; the old holder finds out by
`SendLock.is_lost`, and what it still sends changes nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

SEND_LOCK_NAME = "mlflow.lock"


class SendLock:
    """The right to send the journal of one run folder.

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / SEND_LOCK_NAME
        self._file = -1
        self._lost = False

    def acquire(self) -> bool:
        """Take it without waiting; False if a living process has it. On a file system without locks all may."""
        while self._file < 0:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            except OSError:  # no locks here
                pass
            if self._is_at_path(file):  # else it was removed between opening and locking
                self._file = file
            else:
                os.close(file)
        return True

    @property
    def is_lost(self) -> bool:
        """Whether it was taken, and another driver has removed it since."""
        if self._file >= 0 and not self._lost:
            self._lost = not self._is_at_path(self._file)
        return self._lost

    def release(self) -> None:
        """Give it back. The file stays: removing it is for who takes the folder over."""
        if self._file >= 0:
            self._lost = self.is_lost
            os.close(self._file)
            self._file = -1

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except FileNotFoundError:
            return False


def break_send_lock(run_dir: Path) -> None:
    """Whoever sends from this run folder does so no longer. For the driver that takes the folder over."""
    (run_dir / SEND_LOCK_NAME).unlink(missing_ok=True)
