"""Write a store: sort, cut into row groups, digest, publish; the manifest last.

A crash at any point leaves no visible store: without ``manifest.json`` there is none. ``write_store``
holds the rows in memory once (plus one row group), since they may come in any order; ``write_sorted``
asks for one row group after the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks_store.datafile import read_footer
from tasks_store.digest import ContentDigest
from tasks_store.errors import StoreEmpty, StoreExists
from tasks_store.index import crc32, index_table, plan_row_groups, row_group_span
from tasks_store.manifest import MANIFEST, FileEntry, Manifest, SplitSummary, dump_manifest
from tasks_store.ordering import Groups, check_split_names, sort_rows
from tasks_store.rows import collect_table, columns_of
from tasks_store.schema import ID_COLUMNS, Column, Kind, arrow_schema, check_columns
from tasks_store.storage import Location

_OURS = re.compile(r"[A-Za-z0-9_.-]+-[0-9a-f]{16}\.parquet|\.tmp-.*")


Rows = Callable[[int, int], Any]
"""The stored rows [start, stop) as a pyarrow table of ``arrow_schema``; asked for in ascending order."""


def write_store(
    rows: Iterable[Mapping[str, Any]] | Iterable[Any],
    out: str | Path,
    *,
    name: str = "",
    kind: Kind = "classes",
    columns: Sequence[Column] | None = None,
    source: str = "",
    licence: str = "",
) -> Manifest:
    """Write rows as a new store.

    Args:
        rows: mappings (or Arrow RecordBatches) with "group", "split", the columns, and optionally
            "domain". Any order: they are sorted by (split, group); inside a group the given order
            stays, which for grouped rows means time order.
        out: an absent or empty folder, or a URI.
        name: of the data set; default the folder's.
        kind: "classes", "groups" or "parameters".
        columns: what a row has; by default what the first row has.
        source: where the data come from.
        licence: under which terms.

    Returns:
        The manifest that was published.

    Raises:
        SchemaMismatch: a row that does not fit, or a group in two splits or two domains.
        StoreEmpty: no rows.
        StoreExists: the folder holds a store or other files already.
    """
    location = Location.of(out)
    refuse_overwriting(location)
    stream = iter(rows)
    first = list(islice(stream, 1))
    if not first:
        raise StoreEmpty(f"no rows to write to {location.display}: a store needs at least one")
    columns = check_columns(columns_of(first[0]) if columns is None else columns, kind)
    table = collect_table(chain(first, stream), columns, kind)
    if table.num_rows == 0:
        raise StoreEmpty(f"no rows to write to {location.display}: a store needs at least one")
    order, splits = sort_rows(table)
    return write_sorted(
        splits,
        lambda start, stop: table.take(pa.array(order[start:stop])),
        out,
        name=name or PurePath(str(out)).name,
        kind=kind,
        columns=columns,
        source=source,
        licence=licence,
    )


def write_sorted(
    splits: Mapping[str, Groups],
    rows: Rows,
    out: str | Path,
    *,
    name: str,
    kind: Kind,
    columns: Sequence[Column],
    source: str = "",
    licence: str = "",
) -> Manifest:
    """Write a store whose groups are known beforehand and whose rows are fetched in stored order.

    Args:
        splits: the groups of each split, both sorted by name by code point; :func:`write_store` makes the
            same store of the same rows.
        rows: fetches the rows of one row group; only that is held.
        out, name, kind, columns, source, licence: as for :func:`write_store`.

    Raises:
        SchemaMismatch: columns that cannot be, or an unusable split name.
        StoreEmpty: no groups.
        StoreExists: the folder holds a store or other files already.
    """
    columns = check_columns(columns, kind)
    location = Location.of(out)
    refuse_overwriting(location)
    if not splits:
        raise StoreEmpty(f"no rows to write to {location.display}: a store needs at least one")
    check_split_names(splits)
    schema = arrow_schema(columns, kind)
    index: dict[str, list[Any]] = {
        key: [] for key in ("group", "split", "domain", "file", "row_group", "offset", "count", "crc32")
    }
    files: list[FileEntry] = []
    summaries: dict[str, SplitSummary] = {}
    with location.scratch() as scratch:
        for split, groups in splits.items():
            entry, content = _write_split(rows, schema, split, groups, columns, scratch, location, index)
            files.append(entry)
            summaries[split] = SplitSummary(groups=len(groups.names), rows=sum(groups.counts), content_sha256=content)
        manifest = Manifest(
            name=name,
            kind=kind,
            columns=columns,
            files=tuple(files),
            index=_write_index(index, scratch, location),
            splits=summaries,
            source=source,
            licence=licence,
            creator=f"tasks_store, pyarrow {pa.__version__}",
        )
        staged = scratch / MANIFEST
        staged.write_bytes(dump_manifest(manifest))
        location.publish(staged, MANIFEST, exclusive=True)
    return manifest


def _write_split(
    rows: Rows,
    schema: Any,
    split: str,
    groups: Groups,
    columns: Sequence[Column],
    scratch: Path,
    location: Location,
    index: dict[str, list[Any]],
) -> tuple[FileEntry, str]:
    """Write one split's file; append to the index; return its entry and content digest."""
    staged = scratch / f"{split}.parquet"
    digest = ContentDigest(columns)
    bounds = groups.first_row + np.concatenate([[0], np.cumsum(groups.counts)])
    spans = plan_row_groups(groups.counts, sum(column.nbytes for column in columns))
    with _parquet_writer(staged, schema) as writer:
        for first, last in spans:
            part = rows(int(bounds[first]), int(bounds[last]))
            digest.update(part)
            writer.write_table(part, row_group_size=part.num_rows)
    entry = _publish(staged, split, location, rows=sum(groups.counts), split=split)
    metadata = pq.read_metadata(location.open(entry.path))
    with location.open(entry.path) as file:
        for row_group, (first, last) in enumerate(spans):
            start, end = row_group_span(metadata, row_group)
            file.seek(start)
            checksum = crc32(file.read(end - start))
            size = last - first
            index["group"] += groups.names[first:last]
            index["split"] += [split] * size
            index["domain"] += groups.domains[first:last]
            index["file"] += [entry.path] * size
            index["row_group"] += [row_group] * size
            index["offset"] += [int(row) for row in bounds[first:last] - bounds[first]]
            index["count"] += groups.counts[first:last]
            index["crc32"] += [checksum] * size
    content = digest.hexdigest(zip(groups.names, groups.domains, groups.counts, strict=True))
    return entry, content


def _write_index(index: Mapping[str, Sequence[Any]], scratch: Path, location: Location) -> FileEntry:
    staged = scratch / "index.parquet"
    table = index_table(index)
    with _parquet_writer(staged, table.schema, dictionary=("split", "domain", "file", "crc32")) as writer:
        writer.write_table(table)
    return _publish(staged, "index", location, rows=table.num_rows, split="")


def _parquet_writer(file: Path, schema: Any, dictionary: Sequence[str] = ID_COLUMNS) -> Any:
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=list(dictionary),
        write_statistics=["group", "split"],
        write_page_checksum=True,
    )


def _publish(staged: Path, stem: str, location: Location, *, rows: int, split: str) -> FileEntry:
    """Rename a finished file to its content-addressed name."""
    data = hashlib.sha256()
    size = staged.stat().st_size
    with staged.open("rb") as file:
        while block := file.read(1 << 20):
            data.update(block)
        footer = read_footer(file, size)
    name = f"{stem}-{data.hexdigest()[:16]}.parquet"
    location.publish(staged, name)
    return FileEntry(
        path=name,
        sha256=data.hexdigest(),
        rows=rows,
        bytes=size,
        footer_sha256=hashlib.sha256(footer).hexdigest(),
        split=split,
    )


def refuse_overwriting(location: Location) -> None:
    """Refuse a place that is not free for a new store.

    Raises:
        StoreExists: the folder holds a store or other files already.
    """
    members = location.listing()
    if MANIFEST in members:
        raise StoreExists(f"{location.display} holds a store already; choose another folder or delete it")
    foreign = [member for member in members if not _OURS.fullmatch(member)]
    if foreign:
        raise StoreExists(f"{location.display} is not empty and not a store (it holds {foreign[0]!r}); choose another")
