"""A store as plain Parquet files, one a split, that other tools read (``datasets.load_dataset("parquet", ...)``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks_store.errors import StoreExists
from tasks_store.reader import Store
from tasks_store.schema import ID_COLUMNS, Column


def export_parquet(store: Store, out: str | Path) -> list[Path]:
    """Write ``out/<split>.parquet`` for each split: group, split, domain and the columns; arrays as nested lists of
    a fixed size, so that an import knows their shape.

    Args:
        store: an open store; its checksums are verified as it is read, one group after the other.
        out: an absent or empty folder.

    Raises:
        StoreExists: it is a file, or the folder has something in it.
        CorruptStore: damaged bytes.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise StoreExists(f"{folder} is a file; choose a folder that is absent or empty")
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreExists(f"{folder} is not empty; choose another folder for the export")
    folder.mkdir(parents=True, exist_ok=True)
    columns = store.columns
    fields = [pa.field(column.name, _list_type(column)) for column in columns.values()]
    schema = pa.schema([*((name, pa.string()) for name in ID_COLUMNS), *fields])
    written = []
    for split in store.splits:
        index = store.groups(split)
        file = folder / f"{split}.parquet"
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group, (name, domain) in enumerate(zip(index.names, index.domains, strict=True)):
                values = store.read_group(split, group)
                rows = int(index.counts[group])
                arrays: dict[str, Any] = {"group": [name] * rows, "split": [split] * rows, "domain": [domain] * rows}
                for column in columns.values():
                    arrays[column.name] = pa.array(values[column.name].tolist(), _list_type(column))
                writer.write_table(pa.table(arrays, schema=schema))
        written.append(file)
    return written


def _list_type(column: Column) -> Any:
    kind = pa.string() if column.dtype == "string" else pa.from_numpy_dtype(column.numpy_dtype.newbyteorder("="))
    for size in reversed(column.shape):
        kind = pa.list_(kind, size)
    return kind
