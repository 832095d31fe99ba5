"""What an import did with the rows it read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

_SHOWN = 3


@dataclass
class Summary:
    """Counts of an import: ``read`` is ``kept`` and all of ``dropped``."""

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    labels_dropped: set[str] = field(default_factory=set)
    """Those of --drop-label that some row had."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Files that were never read as rows, by reason."""
    groups: int = 0
    too_small: int = 0
    """Groups of fewer rows than a task needs (2); their rows are dropped."""
    splits: dict[str, int] = field(default_factory=dict)
    """Groups of each split."""
    gaps: dict[str, int] = field(default_factory=dict)
    """Rows with a gap, by column, among those not filtered out."""
    filled: dict[str, float] = field(default_factory=dict)
    """Columns whose gaps were filled, with the mean of the training split."""

    def drop(self, reason: str, rows: int) -> None:
        """Count rows that are left out; zero counts as well, so that a filter that did nothing shows."""
        self.dropped[reason] = self.dropped.get(reason, 0) + int(rows)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; of the skipped files their number and the first few."""
        skipped = {reason: {"files": len(names), "first": names[:_SHOWN]} for reason, names in self.skipped.items()}
        plain = asdict(replace(self, skipped={}, labels_dropped=set()))
        return {**plain, "skipped": skipped, "labels_dropped": sorted(self.labels_dropped)}

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"rows: {self.read} read, {self.kept} kept"
        for reason, rows in self.dropped.items():
            yield f"  {rows} dropped: {reason}"
        for reason, names in self.skipped.items():
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"  {len(names)} files skipped: {reason} ({', '.join(names[:_SHOWN])}{more})"
        yield f"groups: {self.groups}, and {self.too_small} too small (fewer than 2 rows)"
        yield "splits: " + ", ".join(f"{groups} groups {name}" for name, groups in self.splits.items())
        for name, mean in self.filled.items():
            yield f"filled: {self.gaps[name]} gaps of {name} with the training mean {mean:.6g}; flag {name}_missing"
