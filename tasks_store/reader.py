"""Open a store and read groups, every byte checked before it is decoded.

The manifest guards itself and the index; the manifest's footer digest guards a data file's footer,
the index's CRC guards a row group's bytes (page headers included), page checksums guard the pages.
A row group is one request, so that an object store answers it in one round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks_store.datafile import DataFile, check_size
from tasks_store.errors import CorruptStore, SchemaMismatch, StoreEmpty
from tasks_store.index import GroupIndex, split_index
from tasks_store.manifest import FileEntry, Manifest, SplitSummary, load_manifest
from tasks_store.schema import ID_COLUMNS, Column, Kind, decode
from tasks_store.storage import Location
from tasks_store.verify import verify_store


class Store:
    """An open store. Its lifetime is that of its open files: use ``with`` or ``close()``.

    Not for sharing between threads: open one each, it is cheap.
    """

    def __init__(self, location: Location, manifest: Manifest, index: Any) -> None:
        """Use :meth:`open`."""
        self._location = location
        self._index = index
        self._files: dict[str, DataFile] = {}
        self._groups: dict[str, GroupIndex] = {}
        self.manifest = manifest
        self.fingerprint: str = manifest.fingerprint()
        self.kind: Kind = manifest.kind
        self.columns: dict[str, Column] = {column.name: column for column in manifest.columns}
        self.splits: dict[str, SplitSummary] = dict(manifest.splits)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store at a path or URI; reads the manifest and the group index, no data.

        Raises:
            StoreMissing: no manifest there, or a file of the store is gone.
            StoreVersionError: a newer format.
            CorruptStore: a damaged manifest or index.
        """
        location = Location.of(path)
        manifest = load_manifest(location)
        if not manifest.splits:
            raise StoreEmpty(f"the store at {location.display} has no splits: build it again")
        return cls(location, manifest, _read_index(location, manifest.index))

    @property
    def path(self) -> str:
        """The place as it was given to :meth:`open`."""
        return self._location.display

    def groups(self, split: str) -> GroupIndex:
        """The groups of a split, in stored order.

        Raises:
            SchemaMismatch: no such split; the message lists those there are.
        """
        if split not in self.splits:
            raise SchemaMismatch(
                f"the store at {self.path} has no split {split!r}; it has {', '.join(sorted(self.splits))}"
            )
        if split not in self._groups:
            found = split_index(self._index, split)
            if len(found) != self.splits[split].groups or int(found.counts.sum()) != self.splits[split].rows:
                raise CorruptStore(
                    f"{self._location.shown(self.manifest.index.path)}: the index of split {split!r} does "
                    "not agree with the manifest: build the store again",
                    path=self._location.shown(self.manifest.index.path),
                )
            self._groups[split] = found
        return self._groups[split]

    def read_group(self, split: str, g: int, columns: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The rows of one group, {column: (rows, *shape)}; arrays may be read-only views.

        Raises:
            CorruptStore: damaged bytes; names the file and the row group.
            SchemaMismatch: an unknown split, column or group number.
        """
        index = self.groups(split)
        if not 0 <= g < len(index):
            raise SchemaMismatch(f"split {split!r} has groups 0..{len(index) - 1}, asked for {g}")
        wanted = self.check_names(columns)
        table = self._file(index.file(g)).read(int(index.row_groups[g]), int(index.crcs[g]), wanted)
        part = table.slice(int(index.offsets[g]), int(index.counts[g]))
        return {name: decode(part.column(name), self.columns[name]) for name in wanted}

    def row_group_tables(self, split: str, columns: Sequence[str] | None = None, *, ids: bool = False) -> Iterator[Any]:
        """The rows of a split in stored order, as one pyarrow table a row group.

        Args:
            split: its name.
            columns: which columns; None is all.
            ids: also the columns group, split and domain.
        """
        index = self.groups(split)
        wanted = self.check_names(columns) + (list(ID_COLUMNS) if ids else [])
        fresh = np.flatnonzero(np.diff(index.row_groups, prepend=-1))  # one file a split, ascending
        for g in fresh:
            yield self._file(index.file(int(g))).read(int(index.row_groups[g]), int(index.crcs[g]), wanted)

    def verify(self) -> list[str]:
        """Check every byte and count; return one line for each file that is whole.

        Raises:
            CorruptStore: the first damage found.
            StoreMissing: a file is gone.
        """
        return verify_store(self, self._location)

    def check_names(self, columns: Sequence[str] | None) -> list[str]:
        """The asked-for columns (all when None).

        Raises:
            SchemaMismatch: an unknown name.
        """
        wanted = list(self.columns) if columns is None else list(columns)
        unknown = [name for name in wanted if name not in self.columns]
        if unknown:
            raise SchemaMismatch(f"the store at {self.path} has columns {list(self.columns)}, not {unknown}")
        return wanted

    def close(self) -> None:
        """Close the files; reading afterwards opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _file(self, name: str) -> DataFile:
        if name not in self._files:
            entry = next((file for file in self.manifest.files if file.path == name), None)
            if entry is None:
                raise CorruptStore(f"{self.path}: the index names {name}, the manifest does not", path=name)
            self._files[name] = DataFile(self._location, entry)
        return self._files[name]


def _read_index(location: Location, entry: FileEntry) -> Any:
    shown = location.shown(entry.path)
    check_size(location, entry)
    data = location.read(entry.path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CorruptStore(f"{shown}: the group index is damaged: restore it or build the store again", path=shown)
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
