"""A contact sheet of episodes: what a learner will see, for a person to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks_store.cache import SplitData
from tasks_store.episodes import EpisodeSpec, check_spec, draw_episode
from tasks_store.errors import SchemaMismatch, TaskStoreError

_GAP, _BETWEEN, _PAPER, _LINE = 2, 8, 255, 128


def contact_sheet(
    split: SplitData,
    path: str | Path,
    *,
    spec: EpisodeSpec | None = None,
    episodes: int = 4,
    seed: int = 0,
    column: str = "image",
    scale: int = 2,
) -> Path:
    """Draw episodes and write them as one PNG: a row a class, support left, queries right.

    Args:
        split: labelled images, (rows, height, width) or (rows, height, width, 3), uint8; grey images
            are shown as ink on white.
        path: of the PNG.
        spec: default 5 ways, 1 shot, 10 queries (fewer when a class has fewer rows).
        episodes: how many, one below the other.
        seed: of the draw.
        column: the image column.
        scale: pixels shown for each pixel.

    Returns:
        The path.

    Raises:
        SchemaMismatch: not labelled images.
        NotEnoughExamples: the split cannot serve the spec.
        TaskStoreError: Pillow is not there.
    """
    images = _images(split, column)
    if spec is None:
        spec = EpisodeSpec(
            ways=max(2, min(5, split.num_groups)),
            shots=1,
            queries=max(0, min(10, int(split.counts.min()) - 1)),
        )
    check_spec(split, spec)
    rng = np.random.default_rng(seed)
    sheets = []
    for _ in range(episodes):
        episode = draw_episode(split.counts, split.offsets, spec, rng)
        support = images[episode.support_rows].reshape(spec.ways, spec.shots, *images.shape[1:])
        query = images[episode.query_rows].reshape(spec.ways, spec.queries, *images.shape[1:])
        sheets.append(_sheet(support, query))
    page = np.concatenate(sheets).repeat(scale, axis=0).repeat(scale, axis=1)
    try:
        from PIL import Image
    except ImportError as error:
        raise TaskStoreError("writing a PNG needs Pillow: pip install pillow") from error
    Image.fromarray(page).save(path, format="PNG")
    return Path(path)


def _images(split: SplitData, column: str) -> NDArray[np.uint8]:
    if split.kind != "classes" or column not in split.arrays:
        raise SchemaMismatch(
            f"a preview shows labelled images; split {split.split!r} is of kind {split.kind} with columns "
            f"{', '.join(split.arrays)}"
        )
    images = split.arrays[column]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise SchemaMismatch(f"column {column!r} is {images.dtype} {images.shape[1:]}, not uint8 images")
    return images


def _sheet(support: NDArray[Any], query: NDArray[Any]) -> NDArray[np.uint8]:
    """One episode: [ways * height, ...], a grey line between support and queries and below."""
    rows = []
    for shots, queries in zip(_shown(support), _shown(query), strict=True):
        cells = [*shots, None, *queries]
        height = shots.shape[1]
        gap = np.full((height, _GAP, *shots.shape[3:]), _PAPER, np.uint8)
        line = np.full((height, _GAP, *shots.shape[3:]), _LINE, np.uint8)
        row = np.concatenate([part for cell in cells for part in (line if cell is None else cell, gap)], axis=1)
        rows += [row, np.full((_GAP, *row.shape[1:]), _PAPER, np.uint8)]
    rows.append(np.full((_BETWEEN, *rows[0].shape[1:]), _LINE, np.uint8))
    return np.concatenate(rows)


def _shown(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values are ink, so paper is white; colours stay."""
    return np.asarray(255 - images if images.ndim == 4 else images)
