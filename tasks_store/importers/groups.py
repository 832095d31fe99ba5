"""The groups of a table from one pass over its rows, their splits, and their stored order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks_store.errors import ImportFailed
from tasks_store.importers.clean import GROUP, UNIT
from tasks_store.importers.request import TableRequest
from tasks_store.importers.splits import SHARES, cut, from_lists, load_split_file, parse_shares
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


def drop_small(found: GroupCounts, summary: Summary) -> dict[str, int]:
    """Rows of the groups that are large enough for a task; counts the others into the summary.

    Raises:
        ImportFailed: none is left.
    """
    large = {name: rows for name, rows in found.counts.items() if rows >= MIN_ROWS}
    summary.too_small = len(found.counts) - len(large)
    if summary.too_small:
        small_rows = sum(found.counts.values()) - sum(large.values())
        summary.drop(f"in groups of fewer than {MIN_ROWS} rows", small_rows)
    summary.groups, summary.kept = len(large), sum(large.values())
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
        return dict(units)
    if request.split_file:
        owner = from_lists(units.values(), load_split_file(request.split_file), str(request.split_file))
    else:
        shares = parse_shares(request.split) if request.split else SHARES
        what = f"values of {request.split_by}" if request.split_by else "labels" if request.label else "groups"
        owner = cut(units.values(), shares, request.seed, what)
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
