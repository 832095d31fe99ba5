"""The order of a store's rows: by split and group, both by code point; inside a group as given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks_store.errors import SchemaMismatch

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass
class Groups:
    """The groups of one split, in stored order."""

    names: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    first_row: int = 0
    """Of the split, in the order of the whole store."""


def sort_rows(table: Any) -> tuple[NDArray[np.int64], dict[str, Groups]]:
    """The stable order by (split, group), and the groups of each split in that order.

    Raises:
        SchemaMismatch: a group in two splits or two domains, or an unusable split name.
    """
    split_rank, split_names = _ranks(table.column("split"))
    group_rank, group_names = _ranks(table.column("group"))
    domain_rank, domain_names = _ranks(table.column("domain"))
    check_split_names(split_names)
    order = np.lexsort((group_rank, split_rank))
    starts = np.flatnonzero(
        np.diff(group_rank[order], prepend=-1).astype(bool) | np.diff(split_rank[order], prepend=-1).astype(bool)
    )
    counts = np.diff(starts, append=len(order))
    groups, owners = group_rank[order][starts], split_rank[order][starts]
    _refuse_twice(groups, owners, group_names, split_names)
    domains = domain_rank[order]
    mixed = np.flatnonzero(domains != np.repeat(domains[starts], counts))
    if len(mixed):
        raise SchemaMismatch(f"group {group_names[group_rank[order][mixed[0]]]!r} has rows of two domains")
    splits: dict[str, Groups] = {}
    for rank, split in enumerate(split_names):
        mine = np.flatnonzero(owners == rank)
        splits[split] = Groups(
            names=[group_names[code] for code in groups[mine]],
            domains=[domain_names[code] for code in domains[starts[mine]]],
            counts=[int(count) for count in counts[mine]],
            first_row=int(starts[mine[0]]),
        )
    return order.astype(np.int64), splits


def check_split_names(names: Iterable[str]) -> None:
    """Refuse a name that cannot be part of a file name.

    Raises:
        SchemaMismatch: names it.
    """
    for split in names:
        if not _SPLIT_NAME.fullmatch(split):
            raise SchemaMismatch(f"split name {split!r}: expected letters, digits, dot, dash, underscore")


def _ranks(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Each value's rank among the distinct values, and these, sorted by code point."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().chunk(0)
    names = encoded.dictionary.to_pylist()
    by_name = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), dtype=np.int64)
    rank[by_name] = np.arange(len(names))
    return rank[encoded.indices.to_numpy().astype(np.int64)], [names[code] for code in by_name]


def _refuse_twice(
    groups: NDArray[np.int64], owners: NDArray[np.int64], group_names: list[str], split_names: list[str]
) -> None:
    order = np.argsort(groups, kind="stable")
    again = np.flatnonzero(np.diff(groups[order]) == 0)
    if len(again):
        first, second = order[again[0]], order[again[0] + 1]
        raise SchemaMismatch(
            f"group {group_names[groups[first]]!r} lies in two splits, {split_names[owners[first]]!r} and "
            f"{split_names[owners[second]]!r}: give every group one split"
        )
