"""A table of customers, sensors or sentences as a store, in passes over its files; never whole in memory.

1. Count: which rows take part, how large each group is, where gaps are. 2. Only with ``mean+flag``: means of the
training split. 3. Sort: rows go to temporary files beside the store by range of groups, and are written range by
range. What is held is a batch, one range (64 MB, or the largest group) and the names of the groups.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks_store.errors import ImportFailed
from tasks_store.importers.clean import GROUP, Cleaner, refuse_gaps
from tasks_store.importers.files import TableFiles
from tasks_store.importers.groups import GroupCounts, check_dropped, large_groups, split_groups, stored_groups
from tasks_store.importers.partition import ORDER, PARTITION_BYTES, RANK, Partitions
from tasks_store.importers.request import TableRequest, check_columns, check_flags
from tasks_store.importers.summary import Summary
from tasks_store.importers.values import as_float64, gaps, resolve_values
from tasks_store.importers.where import parse_where
from tasks_store.manifest import Manifest
from tasks_store.ordering import Groups
from tasks_store.rows import collect_table
from tasks_store.storage import Location
from tasks_store.writer import refuse_overwriting, write_sorted


def import_table(
    request: TableRequest, out: str | Path, *, partition_bytes: int = PARTITION_BYTES
) -> tuple[Manifest, Summary]:
    """Write a store from a table.

    Args:
        request: what to read, and how.
        out: an absent or empty folder, or a URI.
        partition_bytes: of one range of groups in the external sort.

    Raises:
        ImportFailed: flags, files or rows that cannot be taken; the message names the flag that helps.
        SchemaMismatch: values that do not fit, or an unusable split name.
        StoreExists: ``out`` holds something.
    """
    check_flags(request)
    location = Location.of(out)
    refuse_overwriting(location)
    files = TableFiles(request.files, text=request.text_columns)
    check_columns(request, files)
    used = {*request.key_columns, *filter(None, [request.target])}
    values = resolve_values(files.schema, request.value, used, request.target, request.shape)
    where, filtered = (None, frozenset[str]()) if request.where is None else parse_where(request.where, files.schema)
    cleaner = Cleaner(request=request, values=values, where=where)
    needed = {*used, *values.packed, values.single_name, *filtered}
    columns = [name for name in files.schema.names if name in needed]

    summary, found = Summary(), GroupCounts(request)
    size = 0
    with closing(files.batches(columns)) as tables:
        for table in tables:
            kept = cleaner.kept(table, summary)
            size += kept.nbytes
            found.add(kept)
    refuse_gaps(request, values, summary)
    check_dropped(request, found, summary)
    rows_found = sum(found.counts.values())
    counts = large_groups(found, summary)
    splits = split_groups(request, {name: found.units[name] for name in counts})
    stored = stored_groups(counts, splits, found.units if request.split_by else {})
    summary.splits = {split: len(groups.names) for split, groups in stored.items()}

    if request.missing == "mean+flag":
        flagged = tuple(name for name in values.packed if summary.gaps.get(name))
        summary.filled = _training_means(files, cleaner, columns, flagged, splits)
        values = replace(values, flagged=flagged)
        cleaner = replace(cleaner, values=values)
    row_bytes = size // max(rows_found, 1) + 1 + sum(column.nbytes for column in values.columns if values.pictures)
    sizes = [rows for groups in stored.values() for rows in groups.counts]
    with location.scratch() as scratch, Partitions(scratch, sizes, row_bytes, partition_bytes) as partitions:
        ranks = {name: rank for rank, name in enumerate(name for groups in stored.values() for name in groups.names)}
        put = 0
        with closing(_ranked(files, cleaner, columns, ranks)) as ranked:
            for table, mine in ranked:
                encoded = values.encode(table, summary.filled)
                order = {f"{ORDER}{place:03d}": table.column(name) for place, name in enumerate(request.order_by)}
                partitions.put(pa.table({**encoded, **order}), mine)
                put += table.num_rows
        if put != summary.kept:
            raise ImportFailed(f"the files changed during the import: {summary.kept} rows, then {put}; run it again")
        ids = _Ids(stored)
        manifest = write_sorted(
            stored,
            lambda start, stop: collect_table([ids.added(partitions.rows(start, stop))], values.columns, request.kind),
            out,
            name=request.name or Path(request.files[0]).stem,
            kind=request.kind,
            columns=values.columns,
            source=_source(request, summary),
            licence=request.licence,
        )
    return manifest, summary


class _Ids:
    """Group, split and domain of the rows that come back from the sort."""

    def __init__(self, stored: Mapping[str, Groups]) -> None:
        self._group = pa.array([name for groups in stored.values() for name in groups.names], pa.string())
        self._domain = pa.array([domain for groups in stored.values() for domain in groups.domains], pa.string())
        names, sizes = list(stored), [len(groups.names) for groups in stored.values()]
        self._split = pa.array(np.repeat(np.array(names, dtype=object), sizes), pa.string())

    def added(self, table: Any) -> Any:
        ranks = table.column(RANK)
        for name, values in (("group", self._group), ("split", self._split), ("domain", self._domain)):
            table = table.append_column(name, values.take(ranks))
        return table.drop_columns([RANK])


def _ranked(
    files: TableFiles, cleaner: Cleaner, columns: list[str], ranks: Mapping[str, int]
) -> Generator[tuple[Any, NDArray[np.int64]]]:
    """Rows of the groups in ``ranks``, with the ranks of their groups."""
    with closing(files.batches(columns)) as tables:
        for table in tables:
            kept = cleaner.kept(table, Summary())
            if kept.num_rows:
                mine = _ranks(kept.column(GROUP), ranks)
                yield kept.filter(pa.array(mine >= 0)), mine[mine >= 0]


def _ranks(groups: Any, ranks: Mapping[str, int]) -> NDArray[np.int64]:
    encoded = groups.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().chunk(0)
    by_code = np.array([ranks.get(name, -1) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    found: NDArray[np.int64] = by_code[encoded.indices.to_numpy().astype(np.int64)]
    return found


def _training_means(
    files: TableFiles, cleaner: Cleaner, columns: list[str], names: tuple[str, ...], splits: Mapping[str, str]
) -> dict[str, float]:
    """Mean of each column over the training rows that have a value.

    Raises:
        ImportFailed: no training split, or a column without any value in it.
    """
    if not names:
        return {}
    training = {name: 0 for name, split in splits.items() if split == "train"}
    sums, rows = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    with closing(_ranked(files, cleaner, columns, training)) as ranked:
        for table, _ in ranked:
            for name in names:
                present = ~gaps(table.column(name))
                sums[name] += float(as_float64(table.column(name))[present].sum())
                rows[name] += int(present.sum())
    for name in names:
        if not rows[name]:
            raise ImportFailed(
                f"--missing mean+flag: column {name!r} has no value in the split 'train' (splits: "
                f"{', '.join(sorted(set(splits.values())))}), so it has no mean: leave it out, or use --missing drop"
            )
    return {name: sums[name] / rows[name] for name in names}


def _source(request: TableRequest, summary: Summary) -> str:
    """File names, and what was filled: it belongs to the data."""
    source = ", ".join(Path(file).name for file in request.files)
    filled = ", ".join(f"{name}={mean:.9g}" for name, mean in summary.filled.items())
    return f"{source}; gaps filled with training means: {filled}" if filled else source
