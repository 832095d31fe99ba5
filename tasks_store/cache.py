"""A split as numpy arrays: in memory when small, else a node's memory-mapped decoded cache.

Parquet decodes whole row groups: 15 episodes/s on a mini-ImageNet-size set, 4,160 from a memory
map. So each node decodes a large split once into raw ``.npy`` files, keyed by the content digest,
and its workers share them through the page cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks_store.errors import CorruptStore, StoreEmpty
from tasks_store.home import default_cache_dir
from tasks_store.reader import Store
from tasks_store.schema import Column, Kind, decode


@dataclass(frozen=True, kw_only=True)
class SplitData:
    """The rows of one split, ready for drawing episodes. All arrays are read-only."""

    arrays: dict[str, NDArray[Any]]
    """{column: (rows, *shape)}."""
    offsets: NDArray[np.int64]
    """First row of each group and the end, [G + 1]."""
    names: list[str]
    domains: list[str]
    kind: Kind
    split: str = ""
    fingerprint: str = ""
    """Of the whole store."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each group, [G]."""
        return np.diff(self.offsets)

    @property
    def num_groups(self) -> int:
        return len(self.names)

    @property
    def num_rows(self) -> int:
        return int(self.offsets[-1])


def load_split(
    store: Store, split: str, *, cache_dir: Path | None = None, memory_limit: int = 256 * 2**20
) -> SplitData:
    """All rows of a split, every byte verified when it is decoded.

    Args:
        store: an open store.
        split: its name.
        cache_dir: for large splits; None is ``$METADIST_HOME/cache``. Use a disk of this node.
        memory_limit: up to this many bytes of array columns are held in memory. Text columns always are.

    Raises:
        SchemaMismatch: no such split.
        StoreEmpty: it has no rows.
        CorruptStore: damaged bytes in the store, or a damaged cache folder (the message names it).
    """
    index = store.groups(split)
    rows = int(index.counts.sum())
    if rows == 0:
        raise StoreEmpty(f"split {split!r} of the store at {store.path} has no rows")
    columns = list(store.columns.values())
    if rows * sum(column.nbytes for column in columns) <= memory_limit:
        arrays = {column.name: np.empty((rows, *column.shape), column.numpy_dtype) for column in columns}
        _fill(arrays, store, split, columns)
    else:
        arrays = _mapped(store, split, columns, rows, cache_dir or default_cache_dir())
    for array in arrays.values():
        array.flags.writeable = False
    offsets = np.concatenate([[0], np.cumsum(index.counts)]).astype(np.int64)
    offsets.flags.writeable = False
    return SplitData(
        arrays=arrays,
        offsets=offsets,
        names=index.names,
        domains=index.domains,
        kind=store.kind,
        split=split,
        fingerprint=store.fingerprint,
    )


def _fill(arrays: dict[str, NDArray[Any]], store: Store, split: str, columns: list[Column]) -> None:
    """Decode a split into arrays, one row group at a time."""
    first = 0
    for table in store.row_group_tables(split, [column.name for column in columns]):
        last = first + table.num_rows
        for column in columns:
            arrays[column.name][first:last] = decode(table.column(column.name), column)
        first = last


def _mapped(store: Store, split: str, columns: list[Column], rows: int, cache_dir: Path) -> dict[str, NDArray[Any]]:
    """Text columns in memory, the others mapped from the cache folder, which is made when absent."""
    numeric = [column for column in columns if column.dtype != "string"]
    folder = cache_dir / cache_key(store, split)
    if not folder.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process of this node may have made it meanwhile
                _make_cache(folder, store, split, numeric, rows)
    arrays = {column.name: _open_mapped(folder, column, rows) for column in numeric}
    texts = [column for column in columns if column.dtype == "string"]
    if texts:
        strings = {column.name: np.empty(rows, dtype=object) for column in texts}
        _fill(strings, store, split, texts)
        arrays.update(strings)
    return {column.name: arrays[column.name] for column in columns}


def cache_key(store: Store, split: str) -> str:
    """Folder name of a split's cache: of its content, layout and byte order, not of its place."""
    layout = [(column.name, column.dtype, column.shape) for column in store.columns.values()]
    text = f"1 {store.splits[split].content_sha256} {layout}"
    return f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _make_cache(folder: Path, store: Store, split: str, columns: list[Column], rows: int) -> None:
    staged = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        arrays: dict[str, NDArray[Any]] = {
            column.name: np.lib.format.open_memmap(
                staged / f"{column.name}.npy",
                mode="w+",
                dtype=column.numpy_dtype,
                shape=(rows, *column.shape),
            )
            for column in columns
        }
        _fill(arrays, store, split, columns)
        for column in columns:
            del arrays[column.name]  # unmaps and so writes
            with (staged / f"{column.name}.npy").open("rb") as file:
                os.fsync(file.fileno())
        os.replace(staged, folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _open_mapped(folder: Path, column: Column, rows: int) -> NDArray[Any]:
    path = folder / f"{column.name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptStore(
            f"{path}: the decoded cache is damaged ({error}): delete {folder} and run again", path=str(path)
        ) from error
    if array.shape != (rows, *column.shape) or array.dtype != column.numpy_dtype:
        raise CorruptStore(
            f"{path} holds {array.dtype} {array.shape}, expected {column.dtype} {(rows, *column.shape)}: "
            f"delete {folder} and run again",
            path=str(path),
        )
    return np.asarray(array)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock of this node; freed by the system when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
