"""Which characters have the same shape and must therefore be one class.

Latin A, Greek Alpha and Cyrillic A are one drawing; so are O, o and zero once size and position are
random. If one of them were a training class and another a test class, the test would not be of an
unseen class; if both were in one episode, the label would be a guess. So shapes are compared after
stretching their box to a square (with a bound on how different the boxes are), near-equal ones are
united, and what is united stays one class: transitively, since equality by tolerance is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks_store.generators.outlines import Outline
from tasks_store.generators.raster import fill, shrink

_SIZE = 24
_SUPERSAMPLE = 2
_BLOCK = 2048

UPRIGHT = frozenset({0, 4, 8, 12})
"""Faces (regular, upright) in which shapes are compared with the wide tolerance: in bold and slanted
faces different letters come close to each other by their weight alone."""
WITHIN = 0.95
"""Cosine of blurred shapes above which two characters of one upright face are the same."""
ACROSS = 0.985
"""The same for any two faces, upright or not."""
_BOX_WITHIN, _BOX_ACROSS = 0.45, 0.25  # largest difference of log(width / height)


def signature(outline: Outline) -> NDArray[np.float32]:
    """Blurred ink of the shape stretched to a square, unit length, [24 * 24]."""
    points = outline.edges.reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    size = _SIZE * _SUPERSAMPLE
    fitted = (points - low) / (high - low) * (size - 2) + 1
    ink = np.pad(shrink(fill(fitted.reshape(-1, 4), size), _SUPERSAMPLE), 1)
    ink = ink[:-2] + 2 * ink[1:-1] + ink[2:]
    ink = ink[:, :-2] + 2 * ink[:, 1:-1] + ink[:, 2:]
    flat = ink.ravel() / max(float(np.linalg.norm(ink)), 1e-12)
    return flat.astype(np.float32)


def unite(outlines: Sequence[Outline]) -> list[list[str]]:
    """Characters grouped by shape.

    Returns:
        Groups in order of their representative, which comes first: the member with the most faces, of
        these the lowest code point. The others follow by code point.
    """
    chars = sorted({outline.char for outline in outlines})
    place = {char: number for number, char in enumerate(chars)}
    faces = np.bincount([place[outline.char] for outline in outlines], minlength=len(chars))
    shapes = np.stack([signature(outline) for outline in outlines])
    union = _Union(len(chars))
    for face in sorted(UPRIGHT):
        mine = [number for number, outline in enumerate(outlines) if outline.face == face]
        for a, b in similar(shapes, outlines, mine, WITHIN, _BOX_WITHIN):
            union.join(place[outlines[a].char], place[outlines[b].char])
    while True:  # only representatives are drawn: unite those that meet across faces until none do
        groups = union.groups(faces)
        drawn = {chars[group[0]] for group in groups}
        mine = [number for number, outline in enumerate(outlines) if outline.char in drawn]
        joined = [
            union.join(place[outlines[a].char], place[outlines[b].char])
            for a, b in similar(shapes, outlines, mine, ACROSS, _BOX_ACROSS)
        ]
        if not any(joined):
            return [[chars[member] for member in group] for group in groups]


def similar(
    shapes: NDArray[np.float32],
    outlines: Sequence[Outline],
    which: Sequence[int],
    tolerance: float,
    box: float,
) -> Iterator[tuple[int, int]]:
    """Pairs of outlines (numbers from ``which``) whose shape and box are near each other."""
    chosen = np.asarray(which)
    mine = shapes[chosen]
    log_aspect = np.log([outlines[number].aspect for number in which])
    for start in range(0, len(chosen), _BLOCK):
        close = mine[start : start + _BLOCK] @ mine[start:].T > tolerance
        left, right = np.nonzero(close)
        left, right = left + start, right + start
        kept = (left < right) & (np.abs(log_aspect[left] - log_aspect[right]) < box)
        yield from zip(chosen[left[kept]].tolist(), chosen[right[kept]].tolist(), strict=True)


class _Union:
    """Union-find over 0..size-1."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, a: int, b: int) -> bool:
        """Unite two groups; False when they were one already."""
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)
        return a != b

    def groups(self, weight: NDArray[np.int64]) -> list[list[int]]:
        """Members of each group, the heaviest first, groups ordered by it."""
        members: dict[int, list[int]] = {}
        for member in range(len(self._parent)):
            members.setdefault(self.find(member), []).append(member)
        found = []
        for group in members.values():
            first = max(group, key=lambda member: (int(weight[member]), -member))
            found.append([first, *(member for member in group if member != first)])
        return sorted(found)
