"""Which rows of a batch take part: filtered, not of a dropped label, without gaps where none may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks_store.errors import ImportFailed
from tasks_store.importers.request import TableRequest
from tasks_store.importers.summary import Summary
from tasks_store.importers.values import Values, gaps

GROUP, UNIT = "_group", "_unit"
SEPARATOR = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """The rules of an import for single rows; the same in each pass."""

    request: TableRequest
    values: Values
    where: Any = None
    """A pyarrow compute expression, or None."""

    def kept(self, table: Any, summary: Summary) -> Any:
        """Rows that take part, with the columns ``_group`` and ``_unit`` (what is split whole: a value of
        --split-by or --split-column, else the group); counts the others into the summary."""
        summary.read += table.num_rows
        if self.where is not None:
            before = table.num_rows
            table = table.filter(self.where)
            summary.drop("--where", before - table.num_rows)
        if self.request.drop_label:
            group = self._groups(table)
            dropped = pc.is_in(group, value_set=pa.array(self.request.drop_label, pa.string()))
            summary.drop("--drop-label", pc.sum(dropped).as_py() or 0)
            summary.labels_dropped.update(pc.unique(group.filter(dropped)).to_pylist())
            table = table.filter(pc.invert(dropped))
        table = table.filter(pa.array(self._without_gaps(table, summary)))
        group = self._groups(table)
        unit = self.request.split_by or self.request.split_column
        return table.append_column(GROUP, group).append_column(UNIT, as_text(table, unit) if unit else group)

    def _without_gaps(self, table: Any, summary: Summary) -> np.ndarray[Any, np.dtype[np.bool_]]:
        whole = np.ones(table.num_rows, dtype=np.bool_)
        fillable = self.values.packed if self.request.missing == "mean+flag" else ()
        value = self.values.packed or (self.values.single_name,)
        for name in dict.fromkeys((*self.request.key_columns, *filter(None, [self.request.target]), *value)):
            missing = gaps(table.column(name))
            if missing.any():
                summary.gaps[name] = summary.gaps.get(name, 0) + int(missing.sum())
                if name not in fillable:
                    whole &= ~missing
        if not whole.all() or self.request.missing != "error":
            summary.drop("gaps", int((~whole).sum()))
        return whole

    def _groups(self, table: Any) -> Any:
        parts = [as_text(table, name) for name in self.request.group_columns]
        if len(parts) == 1:
            return parts[0]
        for name, part in zip(self.request.group_columns, parts, strict=True):
            if pc.any(pc.match_substring(part, SEPARATOR)).as_py():
                raise ImportFailed(
                    f"--group: a value of {name!r} has {SEPARATOR!r} in it, which joins the columns of a group: "
                    "make one column of them yourself"
                )
        return pc.binary_join_element_wise(*parts, SEPARATOR)


def as_text(table: Any, name: str) -> Any:
    """A column of any simple type as strings.

    Raises:
        ImportFailed: of a type that has no text.
    """
    try:
        return table.column(name).cast(pa.string())
    except pa.ArrowException as error:
        raise ImportFailed(
            f"column {name!r} of type {table.column(name).type} cannot name a group, a split or a domain: {error}"
        ) from error


def refuse_gaps(request: TableRequest, values: Values, summary: Summary) -> None:
    """Refuse what ``missing`` does not allow, after all rows were seen.

    Raises:
        ImportFailed: the gaps by column, and the choices.
    """
    shown = ", ".join(f"{name} {rows}" for name, rows in summary.gaps.items())
    if request.missing == "error" and summary.gaps:
        raise ImportFailed(
            f"{summary.dropped['gaps']} of {summary.read} rows have gaps (by column: {shown}): choose --missing drop "
            "(leave these rows out) or --missing mean+flag (fill numbers with the training mean and add a 0/1 value "
            "each); the default --missing error refuses them"
        )
    if request.missing == "mean+flag" and summary.gaps.get(values.single_name):
        raise ImportFailed(
            f"--missing mean+flag fills numbers, and {values.single_name!r} ({summary.gaps[values.single_name]} gaps) "
            "is none: use --missing drop"
        )
