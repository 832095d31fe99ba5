"""Where a store lies: a local folder or an object store, behind the few operations we need.

Local files appear by temp file, fsync and rename, so that a reader sees all of a file or nothing.
Object stores publish a key atomically when its upload ends. In both, ``manifest.json`` comes last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from tasks_store.errors import StoreExists, StoreMissing, TaskStoreError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Location:
    """A folder on some file system."""

    filesystem: Any
    """A pyarrow.fs.FileSystem."""
    base: str
    """Path of the folder on that file system, no trailing slash."""
    display: str
    """How the user wrote it: for messages."""

    @classmethod
    def of(cls, place: str | Path) -> Location:
        """From a path or a URI (``file://``, ``s3://``, ``gs://``, ...).

        Raises:
            TaskStoreError: a URI whose scheme pyarrow does not know.
        """
        text = str(place)
        if "://" not in text:
            return cls(pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)), text)
        try:
            filesystem, base = pafs.FileSystem.from_uri(text)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise TaskStoreError(f"cannot use {text!r} as a store location: {_first_line(error)}") from error
        return cls(filesystem, base.rstrip("/"), text)

    @property
    def is_local(self) -> bool:
        """True for folders of this machine (also when written as ``file://``)."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def full(self, name: str) -> str:
        """Path of a member on the file system."""
        return f"{self.base}/{name}"

    def shown(self, name: str) -> str:
        """Path of a member, for messages."""
        return f"{self.display.rstrip('/')}/{name}"

    def size(self, name: str) -> int | None:
        """Bytes of a member, or None when there is no such file."""
        try:
            info = self.filesystem.get_file_info(self.full(name))
        except OSError as error:
            raise TaskStoreError(f"cannot look at {self.shown(name)}: {_first_line(error)}") from error
        return int(info.size) if info.type == pafs.FileType.File else None

    def listing(self) -> list[str]:
        """Names of the members of the folder; [] when there is no folder.

        Raises:
            StoreExists: a file is there.
        """
        try:
            found = self.filesystem.get_file_info(pafs.FileSelector(self.base, allow_not_found=True))
        except NotADirectoryError as error:
            raise StoreExists(f"{self.display} is a file; choose a folder that is absent or empty") from error
        return sorted(info.base_name for info in found)

    def open(self, name: str) -> Any:
        """A random-access pyarrow file.

        Raises:
            StoreMissing: it cannot be opened.
        """
        try:
            return self.filesystem.open_input_file(self.full(name))
        except OSError as error:
            shown = self.shown(name)
            raise StoreMissing(f"cannot open {shown}: {_first_line(error)}", path=shown) from error

    def read(self, name: str) -> bytes:
        """All bytes of a member."""
        with self.open(name) as file:
            return bytes(file.read())

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the same file system when local; removed afterwards, also on errors."""
        if self.is_local:
            os.makedirs(self.base, exist_ok=True)
        parent = self.base if self.is_local else None
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=parent) as folder:
            yield Path(folder)

    def publish(self, file: Path, name: str, *, exclusive: bool = False) -> None:
        """Make a finished local file visible as a member.

        Args:
            file: in the folder of :meth:`scratch`.
            name: its final name.
            exclusive: refuse when the name exists (else it is replaced by equal content).

        Raises:
            StoreExists: exclusive, and the name is taken.
        """
        if not self.is_local:
            if exclusive and self.size(name) is not None:
                raise StoreExists(f"{self.shown(name)} exists already; stores are never overwritten")
            with file.open("rb") as source, self.filesystem.open_output_stream(self.full(name)) as sink:
                while block := source.read(_CHUNK):
                    sink.write(block)
            return
        with file.open("rb") as source:
            os.fsync(source.fileno())
        target = self.full(name)
        if exclusive:
            _link(file, target, self.shown(name))
        else:
            os.replace(file, target)
        _fsync_folder(self.base)


def sha256_of(location: Location, name: str) -> str:
    """SHA-256 of a member, read in blocks."""
    digest = hashlib.sha256()
    with location.open(name) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _link(file: Path, target: str, shown: str) -> None:
    """Rename that fails if the target exists: of two writers exactly one wins."""
    try:
        os.link(file, target)
    except FileExistsError as error:
        raise StoreExists(f"{shown} exists already; stores are never overwritten") from error
    except OSError:  # file systems without hard links: a small window is left between look and rename
        if os.path.exists(target):
            raise StoreExists(f"{shown} exists already; stores are never overwritten") from None
        os.replace(file, target)


def _fsync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
