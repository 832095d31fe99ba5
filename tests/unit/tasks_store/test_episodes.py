"""The laws of drawing tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_store import (
    EpisodeSpec,
    GroupSpec,
    NotEnoughExamples,
    SchemaMismatch,
    SplitData,
    check_spec,
    draw_episode,
    draw_group,
    draw_rows,
)


def _offsets(counts: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _split(counts: list[int], kind: Any = "classes") -> SplitData:
    names = [f"g{number}" for number in range(len(counts))]
    return SplitData(
        arrays={}, offsets=_offsets(counts), names=names, domains=[""] * len(names), kind=kind, split="train"
    )


@st.composite
def episodes(draw: Any) -> tuple[list[int], EpisodeSpec, int]:
    spec = EpisodeSpec(
        ways=draw(st.integers(2, 8)),
        shots=draw(st.integers(1, 4)),
        queries=draw(st.integers(0, 5)),
        variants=draw(st.sampled_from([1, 4])),
    )
    least = spec.shots + spec.queries
    groups = draw(st.integers(math.ceil(spec.ways / spec.variants), 12))
    counts = draw(st.lists(st.integers(least, least + 700), min_size=groups, max_size=groups))
    return counts, spec, draw(st.integers(0, 2**32))


@settings(max_examples=60)
@given(episodes())
def test_labelled_episodes(case: tuple[list[int], EpisodeSpec, int]) -> None:
    counts, spec, seed = case
    offsets = _offsets(counts)
    episode = draw_episode(np.array(counts), offsets, spec, np.random.default_rng(seed))
    again = draw_episode(np.array(counts), offsets, spec, np.random.default_rng(seed))
    assert all((a == b).all() for a, b in zip(episode, again, strict=True)), "equal rng, equal episode"
    assert all(part.dtype == np.int64 for part in episode)

    labels = np.arange(spec.ways)
    assert episode.support_labels.tolist() == labels.repeat(spec.shots).tolist(), "class-major"
    assert episode.query_labels.tolist() == labels.repeat(spec.queries).tolist(), "class-major"
    virtual = list(zip(episode.classes.tolist(), episode.variants.tolist(), strict=True))
    assert len(set(virtual)) == spec.ways, "no virtual class twice"
    assert all(0 <= variant < spec.variants for _, variant in virtual)
    support = episode.support_rows.reshape(spec.ways, spec.shots)
    query = episode.query_rows.reshape(spec.ways, spec.queries)
    for label, (group, _) in enumerate(virtual):
        rows = [*support[label].tolist(), *query[label].tolist()]
        assert len(set(rows)) == len(rows), "no row twice, support and query disjoint"
        assert all(offsets[group] <= row < offsets[group + 1] for row in rows), "rows are of the class"


@pytest.mark.parametrize("size", [16, 600])
def test_rows_and_classes_are_drawn_evenly(size: int) -> None:
    counts, spec, rng = np.full(6, size), EpisodeSpec(ways=3, shots=1, queries=1), np.random.default_rng(0)
    draws = [draw_episode(counts, _offsets(counts.tolist()), spec, rng) for _ in range(3000)]
    classes = np.bincount(np.concatenate([draw.classes for draw in draws]), minlength=6)
    assert abs(classes / 1500 - 1).max() < 0.1
    for rows in ("support_rows", "query_rows"):
        inside = np.concatenate([getattr(draw, rows) for draw in draws]) % size
        quarter = np.bincount(inside * 4 // size, minlength=4)
        assert abs(quarter / 2250 - 1).max() < 0.1
    firsts = np.bincount([draw.classes[0] for draw in draws], minlength=6)
    assert abs(firsts / 500 - 1).max() < 0.2, "labels do not follow the class order"


def test_small_and_large_classes_draw_by_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short cut for small classes takes the same rows as the general way."""
    spec, counts = EpisodeSpec(ways=3, shots=4, queries=9), np.array([13, 40, 500, 512])
    seeds = range(50)

    def draws() -> list[list[int]]:
        return [
            draw_episode(counts, _offsets(counts.tolist()), spec, np.random.default_rng(seed)).query_rows.tolist()
            for seed in seeds
        ]

    short = draws()
    monkeypatch.setattr("tasks_store.episodes._DENSE", 0)
    assert draws() == short


def test_all_rows_of_a_class() -> None:
    spec = EpisodeSpec(ways=2, shots=3, queries=2)
    episode = draw_episode(np.array([5, 5]), _offsets([5, 5]), spec, np.random.default_rng(0))
    assert sorted([*episode.support_rows.tolist(), *episode.query_rows.tolist()]) == list(range(10))


def test_too_few() -> None:
    spec, rng = EpisodeSpec(ways=5, shots=3, queries=3), np.random.default_rng(0)
    with pytest.raises(NotEnoughExamples, match="5 ways asked for, but the split has 4 classes: lower ways"):
        draw_episode(np.full(4, 9), _offsets([9] * 4), spec, rng)
    with pytest.raises(NotEnoughExamples, match=r"group 2 has 5 rows, but 3 shots \+ 3 queries need 6"):
        draw_episode(np.array([9, 9, 5, 9, 9]), _offsets([9, 9, 5, 9, 9]), spec, rng)
    with pytest.raises(NotEnoughExamples, match="5 ways asked for, but split 'train' has 4 classes"):
        check_spec(_split([9] * 4), spec)
    with pytest.raises(NotEnoughExamples, match=r"'g1' of split 'train' has 4 rows.*need 6 \(and 1 more") as caught:
        check_spec(_split([9, 4, 5, 9, 9]), spec)
    assert (caught.value.needed, caught.value.available) == (6, 4)
    check_spec(_split([6] * 5), spec)
    check_spec(_split([6] * 2), EpisodeSpec(ways=5, shots=3, queries=3, variants=4))
    with pytest.raises(NotEnoughExamples, match=r"4 classes \(1 x 4 variants\)"):
        check_spec(_split([6]), EpisodeSpec(ways=5, shots=3, queries=3, variants=4))


def test_of_domains_only_those_that_are_drawn_from_are_checked() -> None:
    within = EpisodeSpec(ways=2, shots=3, queries=3, one_domain=True)
    small = replace(_split([9, 9, 4, 4]), domains=["bank", "bank", "work", ""])
    check_spec(small, within)
    with pytest.raises(NotEnoughExamples, match="'g2' of split 'train' has 4 rows"):
        check_spec(replace(small, domains=["bank", "bank", "work", "work"]), within)


@pytest.mark.parametrize("options", [{"ways": 1}, {"shots": 0}, {"queries": -1}, {"variants": 0}])
def test_impossible_specs(options: dict[str, int]) -> None:
    with pytest.raises(SchemaMismatch, match="an episode needs"):
        EpisodeSpec(**{"ways": 5, "shots": 1, "queries": 1, **options})


@settings(max_examples=100)
@given(
    st.integers(0, 5),
    st.integers(1, 5),
    st.sampled_from(["random", "time"]),
    st.sampled_from(["random", "last"]),
    st.lists(st.integers(0, 20), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_group_tasks(support: int, queries: int, order: Any, cut: Any, extra: list[int], gap: int, seed: int) -> None:
    gap = gap if order == "time" else 0
    spec = GroupSpec(support=support, queries=queries, order=order, cut=cut, gap=gap)
    counts = [support + gap + queries + more for more in extra]
    offsets = _offsets(counts)
    draw = draw_group(offsets, np.array(counts), spec, np.random.default_rng(seed))
    again = draw_group(offsets, np.array(counts), spec, np.random.default_rng(seed))
    assert (draw.support_rows == again.support_rows).all()
    assert (draw.query_rows == again.query_rows).all()
    rows = [*draw.support_rows.tolist(), *draw.query_rows.tolist()]
    assert (len(draw.support_rows), len(draw.query_rows)) == (support, queries)
    assert len(set(rows)) == len(rows)
    assert all(offsets[draw.group] <= row < offsets[draw.group + 1] for row in rows)
    if order == "time":
        assert rows == sorted(rows), "stored order"
        assert all(query > row + gap for query in draw.query_rows for row in draw.support_rows)
        if cut == "last":
            assert draw.query_rows[-1] == offsets[draw.group + 1] - 1


@settings(max_examples=100)
@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.sampled_from(["random", "time"]),
    st.sampled_from(["random", "last"]),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_a_drawn_size_takes_rows_of_the_whole_support_set(
    support: int, low: int, order: Any, cut: Any, gap: int, seed: int
) -> None:
    """Group and queries are the same whatever the size; with order time the rows next to the cut are taken."""
    low, gap = min(low, support), gap if order == "time" else 0
    shape: dict[str, Any] = {"support": support, "queries": 3, "order": order, "cut": cut, "gap": gap}
    counts = np.array([support + gap + 3, support + gap + 9])
    whole = draw_group(_offsets(counts.tolist()), counts, GroupSpec(**shape), np.random.default_rng(seed))
    spec = GroupSpec(**shape, sizes=(low, support))
    part = draw_group(_offsets(counts.tolist()), counts, spec, np.random.default_rng(seed))
    assert part.group == whole.group and part.query_rows.tolist() == whole.query_rows.tolist()
    size = len(part.support_rows)
    assert low <= size <= support
    rows = whole.support_rows.tolist()
    assert part.support_rows.tolist() == (rows[support - size :] if order == "time" else rows[:size])


def test_sizes_are_drawn_evenly() -> None:
    spec, rng = GroupSpec(support=4, queries=1, sizes=(1, 4)), np.random.default_rng(0)
    sizes = [len(draw_group(_offsets([9]), np.array([9]), spec, rng).support_rows) for _ in range(4000)]
    assert abs(np.bincount(sizes)[1:] / 1000 - 1).max() < 0.1


def test_time_cuts_and_groups_are_spread() -> None:
    spec, rng = GroupSpec(support=2, queries=2, order="time"), np.random.default_rng(0)
    draws = [draw_group(_offsets([8, 8]), np.array([8, 8]), spec, rng) for _ in range(2000)]
    starts = np.bincount([int(draw.support_rows[0]) % 8 for draw in draws])
    assert len(starts) == 5
    assert abs(starts / 400 - 1).max() < 0.2
    assert abs(sum(draw.group for draw in draws) / 1000 - 1) < 0.1


def test_group_tasks_too_few() -> None:
    spec = GroupSpec(support=4, queries=4)
    with pytest.raises(NotEnoughExamples, match=r"'g1' of split 'train' has 3 rows, but 4 support rows"):
        check_spec(_split([9, 3], "groups"), spec)
    with pytest.raises(NotEnoughExamples, match="group 0 has 3 rows"):
        draw_group(_offsets([3]), np.array([3]), spec, np.random.default_rng(0))
    with pytest.raises(NotEnoughExamples, match="no groups"):
        draw_group(_offsets([]), np.array([], dtype=np.int64), spec, np.random.default_rng(0))
    for options in (
        {"queries": 0},
        {"support": -1},
        {"order": "alphabetical"},
        {"cut": "first"},
        {"gap": 1},
        {"sizes": (0, 2)},
    ):
        with pytest.raises(SchemaMismatch):
            GroupSpec(**{"support": 1, "queries": 1, **options})


@given(st.integers(1, 10**9), st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_parameter_rows(size: int, uniforms: list[float]) -> None:
    rows = draw_rows(size, np.array(uniforms))
    assert rows.dtype == np.int64
    assert all(0 <= row < size for row in rows)


def test_no_parameter_rows() -> None:
    with pytest.raises(NotEnoughExamples):
        draw_rows(0, np.array([0.5]))
