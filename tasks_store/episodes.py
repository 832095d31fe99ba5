"""Drawing tasks from rows: pure functions of counts and a generator, no file is touched.

Every draw asks the generator for uniforms once and turns them into rows by a partial
Fisher-Yates shuffle that keeps only what it moved: its cost follows the rows drawn, not the rows
there are, and an equal generator gives an equal task on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks_store.cache import SplitData
from tasks_store.errors import NotEnoughExamples, SchemaMismatch

IntArray = NDArray[np.int64]
_DENSE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSpec:
    """Shape of a labelled episode. Example: ``EpisodeSpec(ways=5, shots=1, queries=15)``."""

    ways: int
    """Classes in an episode."""
    shots: int
    """Support rows of each class."""
    queries: int
    """Query rows of each class."""
    variants: int = 1
    """Virtual classes made of each class (4: turned by 0, 90, 180, 270 degrees)."""
    one_domain: bool = False
    """All classes of an episode are of one domain: the hard case, in which a domain's own words tell nothing."""

    def __post_init__(self) -> None:
        if self.ways < 2 or self.shots < 1 or self.queries < 0 or self.variants < 1:
            raise SchemaMismatch(f"an episode needs ways >= 2, shots >= 1, queries >= 0, variants >= 1, got {self}")


class Episode(NamedTuple):
    """Rows of a split, class-major: all of label 0, then all of label 1, ..."""

    support_rows: IntArray
    """[ways * shots]"""
    support_labels: IntArray
    query_rows: IntArray
    """[ways * queries]"""
    query_labels: IntArray
    classes: IntArray
    """Group of each label, [ways]."""
    variants: IntArray
    """Variant of each label, [ways]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Shape of a task that is one group. Example: ``GroupSpec(support=20, queries=24, sizes=(0, 20))``."""

    support: int
    """Support rows (may be 0); with ``sizes`` the rows that are set aside for them."""
    queries: int
    """Query rows."""
    order: Literal["random", "time"] = "random"
    """random: any rows. time: rows as stored; every query row is later than every support row."""
    cut: Literal["random", "last"] = "random"
    """With order time: the cut between support and query anywhere, or so that queries end the group."""
    gap: int = 0
    """With order time: rows left out between support and query."""
    sizes: tuple[int, int] | None = None
    """How many of the support rows a task uses, drawn evenly from this range; None: all. With order time they are
    those next to the cut. Group and query rows do not depend on it."""

    @property
    def needed(self) -> int:
        """Rows that a group must have."""
        return self.support + self.gap + self.queries

    def __post_init__(self) -> None:
        if self.support < 0 or self.queries < 1:
            raise SchemaMismatch(f"a group task needs support >= 0 and queries >= 1, got {self}")
        if self.order not in ("random", "time") or self.cut not in ("random", "last"):
            raise SchemaMismatch(f"order is random or time, cut is random or last, got {self}")
        if self.gap < 0 or (self.gap and self.order != "time"):
            raise SchemaMismatch(f"gap needs order time and is 0 or more, got {self}")
        if self.sizes is not None and not 0 <= self.sizes[0] <= self.sizes[1] <= self.support:
            raise SchemaMismatch(f"sizes is a range within 0..support, got {self}")


class GroupDraw(NamedTuple):
    """One task of a grouped split: the group and its rows in the split."""

    group: int
    support_rows: IntArray
    query_rows: IntArray


def draw_episode(counts: IntArray, offsets: IntArray, spec: EpisodeSpec, rng: np.random.Generator) -> Episode:
    """Draw ways classes, then shots + queries rows of each, all without replacement.

    Args:
        counts: rows of each group, [G].
        offsets: first row of each group, [G] or [G + 1].
        spec: the shape.
        rng: advanced by ways * (1 + shots + queries) uniforms.

    Raises:
        NotEnoughExamples: too few classes, or a drawn class has too few rows.

    Example:
        >>> spec = EpisodeSpec(ways=2, shots=1, queries=2)
        >>> counts, offsets = np.array([4, 4, 4]), np.array([0, 4, 8, 12])
        >>> episode = draw_episode(counts, offsets, spec, np.random.default_rng(0))
        >>> episode.support_labels.tolist(), episode.query_labels.tolist()
        ([0, 1], [0, 0, 1, 1])
    """
    ways, shots, queries, variants = spec.ways, spec.shots, spec.queries, spec.variants
    needed = shots + queries
    if len(counts) * variants < ways:
        raise _too_few_classes(len(counts), spec)
    uniforms = rng.random(ways * (1 + needed)).tolist()  # Python numbers: the loops below are short
    virtual = _pick(len(counts) * variants, uniforms[:ways])
    classes = [number // variants for number in virtual]
    support: list[int] = []
    query: list[int] = []
    place = ways
    for group in classes:
        count, first = int(counts[group]), int(offsets[group])
        if count < needed:
            raise _too_few_rows(f"group {group}", count, needed, spec)
        rows = [first + row for row in _pick(count, uniforms[place : place + needed])]
        support += rows[:shots]
        query += rows[shots:]
        place += needed
    labels = np.arange(ways)
    return Episode(
        np.array(support, dtype=np.int64),
        labels.repeat(shots),
        np.array(query, dtype=np.int64),
        labels.repeat(queries),
        np.array(classes, dtype=np.int64),
        np.array([number % variants for number in virtual], dtype=np.int64),
    )


def draw_group(offsets: IntArray, counts: IntArray, spec: GroupSpec, rng: np.random.Generator) -> GroupDraw:
    """Draw one group, every group being as likely, and its support and query rows.

    Args:
        offsets: first row of each group, [G] or [G + 1].
        counts: rows of each group, [G].
        spec: the shape. With order "time" support rows are the last ones before a cut, query rows the
            first ones after it and after the gap, both in stored order.
        rng: advanced by 1 + support + queries uniforms, whatever the order, and one more with sizes.

    Raises:
        NotEnoughExamples: no groups, or the drawn one has too few rows.
    """
    drawn = spec.support + spec.queries
    uniforms = rng.random(1 + drawn).tolist()
    if not len(counts):
        raise NotEnoughExamples("there are no groups to draw from", needed=1, available=0)
    group = int(uniforms[0] * len(counts))
    count, first = int(counts[group]), int(offsets[group])
    if count < spec.needed:
        raise _too_few_rows(f"group {group}", count, spec.needed, spec)
    if spec.order == "random":
        rows = np.array(_pick(count, uniforms[1:]), dtype=np.int64) + first
    else:
        free = count - spec.needed
        start = free if spec.cut == "last" else int(uniforms[1] * (free + 1))
        rows = np.arange(start, start + spec.needed, dtype=np.int64) + first
    support, query = rows[: spec.support], rows[len(rows) - spec.queries :]
    if spec.sizes is not None:
        low, high = spec.sizes
        size = low + int(rng.random() * (high - low + 1))
        support = support[len(support) - size :] if spec.order == "time" else support[:size]
    return GroupDraw(group, support, query)


def wide_enough(domains: Sequence[str], spec: EpisodeSpec) -> list[IntArray]:
    """Places of the groups of each domain that has classes enough for an episode within it, domains by name.

    Example:
        >>> spec = EpisodeSpec(ways=2, shots=1, queries=1, one_domain=True)
        >>> [places.tolist() for places in wide_enough(["bank", "bank", "work", "home", "home"], spec)]
        [[0, 1], [3, 4]]
    """
    names = np.asarray(domains, dtype=object)
    found = [np.flatnonzero(names == domain) for domain in sorted(set(domains) - {""})]
    return [places for places in found if len(places) * spec.variants >= spec.ways]


def large_enough(counts: IntArray, spec: GroupSpec) -> IntArray:
    """Places of the groups that a task can be drawn from, in order.

    Example:
        >>> large_enough(np.array([9, 3, 4]), GroupSpec(support=1, queries=2, order="time", gap=1)).tolist()
        [0, 2]
    """
    return np.flatnonzero(counts >= spec.needed)


def draw_rows(num_rows: int, uniforms: NDArray[np.float64]) -> IntArray:
    """Parameter rows, where one row is a task: each uniform in [0, 1) names a row (with replacement).

    Example:
        >>> draw_rows(10, np.array([0.0, 0.55, 0.999])).tolist()
        [0, 5, 9]
    """
    if num_rows < 1:
        raise NotEnoughExamples("there are no parameter rows to draw from", needed=1, available=0)
    return np.minimum(np.floor(uniforms * num_rows), num_rows - 1).astype(np.int64)


def check_spec(split: SplitData, spec: EpisodeSpec | GroupSpec) -> None:
    """Refuse a spec that some draw from this split could not serve.

    Raises:
        NotEnoughExamples: names ways and classes, or the smallest group.
    """
    if isinstance(spec, EpisodeSpec):
        if split.num_groups * spec.variants < spec.ways:
            raise _too_few_classes(split.num_groups, spec, where=f"split {split.split!r}")
        if spec.one_domain and not wide_enough(split.domains, spec):
            most = max((split.domains.count(domain) for domain in set(split.domains) - {""}), default=0)
            raise _too_few_classes(most, spec, where=f"the largest domain of split {split.split!r}")
        needed = spec.shots + spec.queries
        drawn = np.concatenate(wide_enough(split.domains, spec)) if spec.one_domain else np.arange(split.num_groups)
    else:
        needed, drawn = spec.needed, np.arange(split.num_groups)
    counts = split.counts
    smallest = int(drawn[np.argmin(counts[drawn])])
    if counts[smallest] < needed:
        short = int((counts[drawn] < needed).sum())
        name = f"{split.names[smallest]!r} of split {split.split!r}"
        raise _too_few_rows(name, int(counts[smallest]), needed, spec, also=short - 1)


def _pick(size: int, uniforms: list[float]) -> list[int]:
    """len(uniforms) different numbers below size, in random order.

    Place i of 0..size-1 is swapped with a random place >= i, in turn.
    """
    if size <= _DENSE:
        pool = list(range(size))
        for place, uniform in enumerate(uniforms):
            other = place + int(uniform * (size - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[: len(uniforms)]
    moved: dict[int, int] = {}  # the same swaps, keeping only the places that were touched
    picked = []
    for place, uniform in enumerate(uniforms):
        other = place + int(uniform * (size - place))
        picked.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return picked


def _too_few_classes(groups: int, spec: EpisodeSpec, where: str = "the split") -> NotEnoughExamples:
    available = groups * spec.variants
    return NotEnoughExamples(
        f"{spec.ways} ways asked for, but {where} has {available} classes"
        f"{f' ({groups} x {spec.variants} variants)' if spec.variants > 1 else ''}: lower ways",
        needed=spec.ways,
        available=available,
    )


def _too_few_rows(
    name: str, count: int, needed: int, spec: EpisodeSpec | GroupSpec, also: int = 0
) -> NotEnoughExamples:
    support = f"{spec.shots} shots" if isinstance(spec, EpisodeSpec) else f"{spec.support} support rows"
    if isinstance(spec, GroupSpec) and spec.gap:
        support += f" + a gap of {spec.gap}"
    others = f" (and {also} more groups have too few)" if also > 0 else ""
    return NotEnoughExamples(
        f"{name} has {count} rows, but {support} + {spec.queries} queries need {needed}{others}: "
        "lower them or leave the group out of the store",
        needed=needed,
        available=count,
    )
