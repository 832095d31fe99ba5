"""An external sort: rows go to temporary files by range of groups, and come back one file after the other.

The groups and their sizes are known from a first pass, so that a range can be cut to a bounded size. What is held is
one range, which is never less than one group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

PARTITION_BYTES = 64 << 20
MAX_PARTITIONS = 256
RANK, ORDER = "_rank", "_order"


def plan_partitions(counts: Sequence[int], row_bytes: int, limit: int = PARTITION_BYTES) -> NDArray[np.int64]:
    """First group of each partition, and the number of groups at the end.

    Example:
        >>> plan_partitions([10, 10, 50, 5], row_bytes=1, limit=25).tolist()
        [0, 2, 3, 4]
    """
    limit = max(limit, sum(counts) * row_bytes // MAX_PARTITIONS)
    starts, held = [0], 0
    for group, count in enumerate(counts):
        if held and (held + count) * row_bytes > limit:
            starts.append(group)
            held = 0
        held += count
    return np.array([*starts, len(counts)], dtype=np.int64)


class Partitions:
    """Rows that are put in any order and fetched in the order of their groups.

    Args:
        folder: for the temporary files; its owner removes it.
        counts: rows of each group, in stored order.
        row_bytes: of one row, roughly.
    """

    def __init__(self, folder: Path, counts: Sequence[int], row_bytes: int, limit: int = PARTITION_BYTES) -> None:
        self._bounds = plan_partitions(counts, row_bytes, limit)
        self._rows = np.concatenate([[0], np.cumsum(counts)])[self._bounds]
        self._files = [folder / f"part-{number}.arrow" for number in range(len(self._bounds) - 1)]
        self._writers: dict[int, Any] = {}
        self._loaded: tuple[int, Any] = (-1, None)

    def __enter__(self) -> Partitions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def put(self, table: Any, ranks: NDArray[np.int64]) -> None:
        """Add rows; ``ranks`` are the positions of their groups in stored order."""
        table = table.append_column(RANK, pa.array(ranks))
        owners = np.searchsorted(self._bounds, ranks, side="right") - 1
        order = np.argsort(owners, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        found, starts = np.unique(owners[order], return_index=True)
        for owner, start, stop in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=True):
            if owner not in self._writers:
                self._writers[owner] = pa.ipc.new_stream(str(self._files[owner]), table.schema)
            self._writers[owner].write_table(table.slice(int(start), int(stop - start)))

    def rows(self, start: int, stop: int) -> Any:
        """Rows [start, stop) of the stored order, with the rank of their groups."""
        return pa.concat_tables(list(self._pieces(start, stop)))

    def _pieces(self, start: int, stop: int) -> Iterator[Any]:
        first = int(np.searchsorted(self._rows, start, side="right")) - 1
        for number in range(first, len(self._files)):
            low, high = int(self._rows[number]), int(self._rows[number + 1])
            if low >= stop:
                return
            table = self._load(number)
            yield table.slice(max(start, low) - low, min(stop, high) - max(start, low))

    def _load(self, number: int) -> Any:
        if self._loaded[0] != number:
            self._close()
            self._loaded = (-1, None)
            with pa.ipc.open_stream(str(self._files[number])) as reader:
                table = reader.read_all()
            keys = [name for name in table.column_names if name == RANK or name.startswith(ORDER)]
            keys.sort(key=lambda name: name != RANK)
            order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in keys])
            self._loaded = (number, table.drop_columns(keys[1:]).take(order))
            self._files[number].unlink()
        return self._loaded[1]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
