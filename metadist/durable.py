"""Files that survive: on the disk before they are seen, whole or invisible, and errors that name the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from metadist.errors import SaveFailed

DISK_ERRNOS = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.ESTALE,
})  # fmt: skip
"""What a full, failing or forbidden disk answers."""


@contextmanager
def writing(path: Path, only: Container[int | None] | None = None) -> Iterator[None]:
    """Say of an ``OSError`` which file it was about and what to do; ``only`` leaves those of other numbers alone.

    Raises:
        SaveFailed: the operating system refused something.
    """
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        named = Path(error.filename) if isinstance(error.filename, str | Path) else path
        raise SaveFailed(str(named if named.is_absolute() else path), error.strerror or str(error)) from error


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that nobody looks at yet, and wait until it is on the disk.

    Raises:
        SaveFailed: the disk did not take it.
    """
    with writing(path):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        SaveFailed: the disk did not take them.
    """
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace a file so that a reader, or a crash, sees either the old content or the new.

    Raises:
        SaveFailed: the disk did not take it; the old content is still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    write_synced(temporary, data.encode() if isinstance(data, str) else data)
    with writing(path):
        os.replace(temporary, path)
    sync_folder(path.parent)
