"""The groups of a table from one pass over its rows, their splits, and their stored order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tasks_store.errors import ImportFailed
from tasks_store.importers.clean import GROUP, UNIT
from tasks_store.importers.request import TableRequest
from tasks_store.importers.splits import SHARES, check_splits, cut, from_lists, load_split_file, parse_shares
from tasks_store.importers.summary import Summary
from tasks_store.ordering import Groups

MIN_ROWS = 2


@dataclass
class GroupCounts:
    """Rows and unit of each group seen so far."""

    request: TableRequest
    counts: dict[str, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, table: Any) -> None:
        """Count the rows of a cleaned batch.

        Raises:
            ImportFailed: a group of two units.
        """
        pairs = table.group_by([GROUP, UNIT]).aggregate([([], "count_all")])
        names, units = pairs.column(GROUP).to_pylist(), pairs.column(UNIT).to_pylist()
        for name, unit, rows in zip(names, units, pairs.column("count_all").to_pylist(), strict=True):
            if self.units.setdefault(name, unit) != unit:
                raise ImportFailed(_two_units(self.request, name, self.units[name], unit))
            self.counts[name] = self.counts.get(name, 0) + rows


def _two_units(request: TableRequest, name: str, first: str, second: str) -> str:
    what = "label" if request.label else "group"
    if request.split_column:
        return (
            f"{what} {name!r} lies in two splits, {first!r} and {second!r}, by --split-column {request.split_column}: "
            f"a {what} is split whole, never its rows (splits of the rows of each class are for ordinary training); "
            "cut with --split 0.7,0.1,0.2, or with --split-by COL by whole values of a column, e.g. --split-by domain"
        )
    return (
        f"{what} {name!r} has two values of --split-by {request.split_by}, {first!r} and {second!r}: take a column "
        f"with one value a {what}, add it to --group, or cut with --split 0.7,0.1,0.2"
    )


def check_dropped(request: TableRequest, found: GroupCounts, summary: Summary) -> None:
    """Refuse a --drop-label that no row has: a misspelt one would stay in.

    Raises:
        ImportFailed: names it, and one that is near.
    """
    for label in request.drop_label:
        if label not in summary.labels_dropped:
            close = get_close_matches(label, found.counts, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            kept = " that --where keeps" if request.where else ""
            raise ImportFailed(f"--drop-label {label}: no row{kept} has such a label{hint}")


def drop_small(counts: Mapping[str, int], summary: Summary, what: str) -> dict[str, int]:
    """Rows of the groups that are large enough for a task; counts the others into the summary as of ``what``."""
    large = {name: rows for name, rows in counts.items() if rows >= MIN_ROWS}
    summary.too_small = len(counts) - len(large)
    if summary.too_small:
        summary.drop(what, sum(counts.values()) - sum(large.values()))
    summary.groups, summary.kept = len(large), sum(large.values())
    return large


def large_groups(found: GroupCounts, summary: Summary) -> dict[str, int]:
    """Rows of the groups of a table that are large enough for a task.

    Raises:
        ImportFailed: none is left.
    """
    large = drop_small(found.counts, summary, f"in groups of fewer than {MIN_ROWS} rows")
    if not large:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in summary.dropped.items()) or "the files are empty"
        raise ImportFailed(
            f"no group of {MIN_ROWS} or more rows is left of {summary.read} rows (dropped: {reasons}): "
            "look at --where, --drop-label, --missing and --label or --group"
        )
    return large


def split_groups(request: TableRequest, units: Mapping[str, str]) -> dict[str, str]:
    """The split of each group.

    Raises:
        ImportFailed: a split that cannot be carried out.
    """
    if request.split_column:
        check_splits(units.values(), f"--split-column {request.split_column}")
        return dict(units)
    what = f"values of {request.split_by}" if request.split_by else "labels" if request.label else "groups"
    return split_units(units, what, split=request.split, split_file=request.split_file, seed=request.seed)


def split_units(
    units: Mapping[str, str], what: str, *, split: str | None, split_file: str | Path | None, seed: int = 0
) -> dict[str, str]:
    """The split of each group by that of its unit: from a file of lists, or by shares.

    Raises:
        ImportFailed: a split that cannot be carried out.
    """
    if split_file is not None:
        owner = from_lists(units.values(), load_split_file(split_file), str(split_file))
    else:
        owner = cut(units.values(), parse_shares(split) if split else SHARES, seed, what)
    return {name: owner[unit] for name, unit in units.items()}


def stored_groups(
    counts: Mapping[str, int], splits: Mapping[str, str], domains: Mapping[str, str]
) -> dict[str, Groups]:
    """The groups of each split in stored order."""
    found: dict[str, Groups] = {split: Groups() for split in sorted(set(splits.values()))}
    for name in sorted(counts):
        groups = found[splits[name]]
        groups.names.append(name)
        groups.domains.append(domains.get(name, ""))
        groups.counts.append(counts[name])
    row = 0
    for groups in found.values():
        groups.first_row = row
        row += sum(groups.counts)
    return found
