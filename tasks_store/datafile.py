"""One Parquet data file, read a row group at a time, each byte checked before it is decoded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tasks_store.errors import CorruptStore, StoreMissing
from tasks_store.index import crc32, row_group_span
from tasks_store.manifest import FileEntry
from tasks_store.storage import Location

_DECODING = (pa.ArrowException, OSError, ValueError, MemoryError)


class DataFile:
    """One open data file whose size and footer are those of the manifest."""

    def __init__(self, location: Location, entry: FileEntry) -> None:
        self._shown = location.shown(entry.path)
        check_size(location, entry)
        self._file = location.open(entry.path)
        footer = read_footer(self._file, entry.bytes)
        if hashlib.sha256(footer).hexdigest() != entry.footer_sha256:
            raise CorruptStore(
                f"{self._shown}: the footer is damaged: restore the file or build the store again",
                path=self._shown,
            )
        self._metadata = pq.read_metadata(pa.BufferReader(b"PAR1" + footer))
        self._window = _Window(entry.bytes)
        self._parquet = pq.ParquetFile(self._window, metadata=self._metadata, page_checksum_verification=True)

    def read(self, row_group: int, crc: int, columns: Sequence[str]) -> Any:
        """One row group as a pyarrow table of the columns.

        Raises:
            CorruptStore: its bytes are not those that were written.
        """
        try:
            start, end = row_group_span(self._metadata, row_group)
            self._file.seek(start)
            data = bytes(self._file.read(end - start))
            if crc32(data) != crc:
                raise CorruptStore(
                    f"{self._shown}, row group {row_group}: damaged bytes (checksum differs): restore it "
                    "or build the store again",
                    path=self._shown,
                    row_group=row_group,
                )
            self._window.show(start, data)
            return self._parquet.read_row_group(row_group, columns=list(columns), use_threads=False)
        except _DECODING as error:
            raise CorruptStore(
                f"{self._shown}, row group {row_group}: cannot be decoded "
                f"({(str(error).splitlines() or [''])[0]}): restore the file or build the store again",
                path=self._shown,
                row_group=row_group,
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._file.close()


class _Window(io.RawIOBase):
    """A file of a given size of which only one checked span can be read: what Arrow decodes from."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._start = 0
        self._data = b""
        self._position = 0

    def show(self, start: int, data: bytes) -> None:
        self._start, self._data = start, data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        first = self._position - self._start
        last = len(self._data) if size is None or size < 0 else first + size
        if first < 0 or last > len(self._data):
            raise OSError(f"a read outside the row group at byte {self._position}")
        self._position = self._start + last
        return self._data[first:last]


def check_size(location: Location, entry: FileEntry) -> None:
    """Compare a file's size with the manifest's.

    Raises:
        StoreMissing: there is no such file.
        CorruptStore: another size.
    """
    shown = location.shown(entry.path)
    size = location.size(entry.path)
    if size is None:
        raise StoreMissing(
            f"{shown} is named by the manifest but gone: restore it or build the store again", path=shown
        )
    if size != entry.bytes:
        raise CorruptStore(
            f"{shown} has {size} bytes, expected {entry.bytes} (truncated?): restore it or build the store again",
            path=shown,
        )


def read_footer(file: Any, size: int) -> bytes:
    """The Parquet footer with its length and magic number; b'' when the length is impossible."""
    file.seek(max(size - 8, 0))
    tail = cast(bytes, file.read(8))
    length = int.from_bytes(tail[:4], "little") + 8
    if len(tail) < 8 or length > size:
        return b""
    file.seek(size - length)
    return cast(bytes, file.read(length))
