"""Check a whole store: the sha256 of every file, every page checksum, all counts, all content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tasks_store.datafile import check_size
from tasks_store.digest import ContentDigest
from tasks_store.errors import CorruptStore
from tasks_store.index import GroupIndex
from tasks_store.manifest import Manifest
from tasks_store.storage import Location, sha256_of


class Readable(Protocol):
    """What is needed of an open store."""

    manifest: Manifest

    def groups(self, split: str) -> GroupIndex: ...

    def row_group_tables(
        self, split: str, columns: Sequence[str] | None = None, *, ids: bool = False
    ) -> Iterator[Any]: ...


def verify_store(store: Readable, location: Location) -> list[str]:
    """One line for each file that is whole; see :meth:`tasks_store.Store.verify`.

    Raises:
        CorruptStore, StoreMissing: at the first damage.
    """
    done: list[str] = []
    for entry in (store.manifest.index, *store.manifest.files):
        check_size(location, entry)
        shown = location.shown(entry.path)
        if entry.split:
            _check_rows(store, entry.split, shown)
        if sha256_of(location, entry.path) != entry.sha256:
            raise CorruptStore(f"{shown} differs from its sha256: restore it or build the store again", path=shown)
        done.append(f"{entry.path}: {entry.rows} rows, {entry.bytes} bytes, sha256 and checksums agree")
    return done


def _check_rows(store: Readable, split: str, shown: str) -> None:
    """Decode a split and compare the group column with the index, the content with the manifest."""
    index = store.groups(split)
    digest = ContentDigest(store.manifest.columns)
    first = 0
    for table in store.row_group_tables(split, ids=True):
        rows = int(table.num_rows)
        last = first
        held = 0
        while last < len(index) and held < rows:
            held += int(index.counts[last])
            last += 1
        expected = np.repeat(np.arange(first, last), index.counts[first:last])
        names = pa.array(index.names[first:last], type=pa.string()).take(pa.array(expected - first))
        if held != rows or not table.column("group").combine_chunks().equals(names):
            raise CorruptStore(f"{shown}: rows and group index disagree near group {first}", path=shown)
        digest.update(table)
        first = last
    groups = zip(index.names, index.domains, (int(count) for count in index.counts), strict=True)
    if digest.hexdigest(groups) != store.manifest.splits[split].content_sha256:
        raise CorruptStore(f"{shown}: the values of split {split!r} are not those of the manifest", path=shown)
