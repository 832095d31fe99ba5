"""The group index: where each group's rows are. A Parquet file of its own, read whole at opening.

One row a group: group, split, domain, file, row group, offset in the row group, count, and the
CRC-32 of the row group's bytes. The CRC is there because a Parquet page checksum covers the page
but not its header: a flip in a header may otherwise decode into other values without an error.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

INDEX_SCHEMA = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class GroupIndex:
    """The groups of one split, in stored order (sorted by name)."""

    split: str
    counts: NDArray[np.int64]
    """Rows of each group, [G]."""
    row_groups: NDArray[np.int64]
    """Row group of each group in its file, [G]."""
    offsets: NDArray[np.int64]
    """First row of each group inside its row group, [G]."""
    crcs: NDArray[np.int64]
    """CRC-32 of the bytes of that row group, [G]."""
    _names: Any = field(repr=False)
    _domains: Any = field(repr=False)
    _files: Any = field(repr=False)

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def names(self) -> list[str]:
        """Group names (made on first use: a million strings take a while)."""
        return [str(name) for name in self._names.to_pylist()]

    @cached_property
    def domains(self) -> list[str]:
        """Domain of each group, '' where none was given."""
        return [str(domain) for domain in self._domains.to_pylist()]

    def name(self, group: int) -> str:
        """Name of one group, without making the list."""
        return str(self._names[group].as_py())

    def file(self, group: int) -> str:
        """Data file that holds one group."""
        return str(self._files[group].as_py())


def split_index(table: Any, split: str) -> GroupIndex:
    """The part of the index table that belongs to one split."""
    part = table.filter(pc.equal(table.column("split"), split))

    def numbers(name: str) -> NDArray[np.int64]:
        values = part.column(name).to_numpy().astype(np.int64)
        values.flags.writeable = False
        return np.asarray(values)

    return GroupIndex(
        split=split,
        counts=numbers("count"),
        row_groups=numbers("row_group"),
        offsets=numbers("offset"),
        crcs=numbers("crc32"),
        _names=part.column("group"),
        _domains=part.column("domain"),
        _files=part.column("file"),
    )


def plan_row_groups(
    counts: Sequence[int], row_bytes: int, *, target_rows: int = 4096, target_bytes: int = 256 * 1024
) -> list[tuple[int, int]]:
    """Which groups share a row group: ranges [first, last) of groups, in order, none left out.

    A group is never cut. Groups gather until the next one would pass either target, so that a class
    of 256 KB or more has a row group of its own and small ones are read with few others.

    Example:
        >>> plan_row_groups([20, 20, 5000, 20], row_bytes=784)
        [(0, 2), (2, 3), (3, 4)]
    """
    limit = max(1, min(target_rows, target_bytes // max(row_bytes, 1)))
    ranges: list[tuple[int, int]] = []
    first, held = 0, 0
    for position, count in enumerate(counts):
        if held and held + count > limit:
            ranges.append((first, position))
            first, held = position, 0
        held += count
    if counts:
        ranges.append((first, len(counts)))
    return ranges


def row_group_span(metadata: Any, row_group: int) -> tuple[int, int]:
    """Bytes [start, end) of a row group in its file, from the Parquet metadata."""
    group = metadata.row_group(row_group)
    starts, ends = [], []
    for position in range(group.num_columns):
        chunk = group.column(position)
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
            start = min(start, chunk.dictionary_page_offset)
        starts.append(start)
        ends.append(start + chunk.total_compressed_size)
    return min(starts), max(ends)


def crc32(data: bytes) -> int:
    """CRC-32 of bytes, unsigned."""
    return zlib.crc32(data)


def index_table(rows: Mapping[str, Sequence[Any]]) -> Any:
    """The index as a pyarrow table from its columns."""
    return pa.Table.from_arrays(
        [pa.array(rows[name.name], type=name.type) for name in INDEX_SCHEMA], schema=INDEX_SCHEMA
    )
