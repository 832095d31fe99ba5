"""Rows of a split as the two halves of tasks, before any transform.

Legend: T tasks, N examples of a half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks_store import (
    Episode,
    EpisodeSpec,
    GroupSpec,
    SplitData,
    draw_episode,
    draw_group,
    large_enough,
    wide_enough,
)

QUARTER_TURNS = 4
Pool = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and first row of each class."""


class Half(NamedTuple):
    """Support or query of T tasks: stored values x (T, N, *stored shape), y (T, N) labels or (T, N, D) values, and
    weight (T, N), zero at padding, where sizes differ."""

    x: NDArray[Any]
    y: NDArray[Any]
    weight: NDArray[np.float32] | None = None


def labelled(
    data: SplitData, column: str, spec: EpisodeSpec, draws: Sequence[np.random.Generator]
) -> tuple[Half, Half]:
    """N-way episodes; with variants the images of a class are turned, alike in a task."""
    pools = _pools(data, spec)
    episodes = [_episode(pools, spec, draw) for draw in draws]
    turns = np.stack([episode.variants for episode in episodes])  # (T, ways)

    def half(rows: list[NDArray[np.int64]], labels: list[NDArray[np.int64]], a_class: int) -> Half:
        picked = data.arrays[column][np.stack(rows)]
        if spec.variants > 1:
            picked = _turned(picked, np.repeat(turns, a_class, axis=1))
        return Half(picked, np.stack(labels))

    return (
        half([e.support_rows for e in episodes], [e.support_labels for e in episodes], spec.shots),
        half([e.query_rows for e in episodes], [e.query_labels for e in episodes], spec.queries),
    )


def _pools(data: SplitData, spec: EpisodeSpec) -> list[Pool]:
    """What the classes of an episode are drawn from: all classes, or each domain that is wide enough."""
    counts, offsets = data.counts, data.offsets[:-1]
    if not spec.one_domain:
        return [(counts, offsets)]
    return [(counts[places], offsets[places]) for places in wide_enough(data.domains, spec)]


def _episode(pools: list[Pool], spec: EpisodeSpec, draw: np.random.Generator) -> Episode:
    """Of one pool, each being as likely; a single one is not drawn for."""
    counts, offsets = pools[int(draw.random() * len(pools))] if len(pools) > 1 else pools[0]
    return draw_episode(counts, offsets, spec, draw)


def grouped(
    data: SplitData, value: str, target: str, spec: GroupSpec, draws: Sequence[np.random.Generator]
) -> tuple[Half, Half]:
    """One group a task, of those that are large enough. Where sizes differ, a support set is padded to the most, and an
    empty one to one row: torch's own gradients of a pass without rows are not always zero."""
    counts = data.counts
    places = large_enough(counts, spec)
    offsets, counts = data.offsets[:-1][places], counts[places]
    groups = [draw_group(offsets, counts, spec, draw) for draw in draws]
    low, high = spec.sizes or (spec.support, spec.support)
    high = max(high, 1)
    support = np.stack([np.resize(group.query_rows, high) for group in groups])  # any rows stand at padding
    weight = np.zeros((len(groups), high), np.float32)
    for index, group in enumerate(groups):
        support[index, : len(group.support_rows)] = group.support_rows
        weight[index, : len(group.support_rows)] = 1

    def half(rows: NDArray[np.int64], weight: NDArray[np.float32] | None = None) -> Half:
        y = data.arrays[target][rows].astype(np.float32).reshape(*rows.shape, math.prod(data.arrays[target].shape[1:]))
        return Half(data.arrays[value][rows], y if weight is None else without_padding(y, weight), weight)

    query = half(np.stack([group.query_rows for group in groups]))
    return half(support, weight if low < high else None), query


def without_padding(values: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[Any]:
    """Numbers (T, N, ...) with zeros where ``weight`` (T, N) is zero."""
    return np.where((weight > 0).reshape(*weight.shape, *[1] * (values.ndim - 2)), values, np.zeros((), values.dtype))


def _turned(images: NDArray[Any], turns: NDArray[np.int64]) -> NDArray[Any]:
    """Turn images (T, N, H, W, ...) by ``turns`` (T, N) quarters."""
    turned = np.empty_like(images)
    for quarter in range(QUARTER_TURNS):
        where = turns == quarter
        turned[where] = np.rot90(images[where], quarter, axes=(1, 2))
    return turned
