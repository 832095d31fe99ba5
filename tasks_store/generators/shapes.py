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


def signatures(outlines: Sequence[Outline]) -> NDArray[np.float32]:
    """Blurred ink of each shape stretched to a square, unit length, [n, 24 * 24]."""
    size = _SIZE * _SUPERSAMPLE
    ink = np.zeros((len(outlines), _SIZE + 2, _SIZE + 2), dtype=np.float32)
    for number, outline in enumerate(outlines):
        points = outline.edges.reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        fitted = (points - low) / (high - low) * (size - 2) + 1
        ink[number, 1:-1, 1:-1] = shrink(fill(fitted.reshape(-1, 4), size), _SUPERSAMPLE)
    ink = ink[:, :-2] + 2 * ink[:, 1:-1] + ink[:, 2:]
    ink = ink[:, :, :-2] + 2 * ink[:, :, 1:-1] + ink[:, :, 2:]
    flat = ink.reshape(len(outlines), -1)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-12))


def unite(outlines: Sequence[Outline]) -> list[list[str]]:
    """Characters grouped by shape.

    Returns:
        Groups in order of their representative, which comes first: the member with the most faces, of
        these the lowest code point. The others follow by code point.
    """
    chars = sorted({outline.char for outline in outlines})
    place = {char: number for number, char in enumerate(chars)}
    faces = np.bincount([place[outline.char] for outline in outlines], minlength=len(chars))
    union = _Union(len(chars))

    def join(chosen: Sequence[Outline], tolerance: float, box: float) -> None:
        for a, b in similar(chosen, tolerance, box):
            union.join(place[chosen[a].char], place[chosen[b].char])

    for face in sorted(UPRIGHT):
        join([outline for outline in outlines if outline.face == face], WITHIN, _BOX_WITHIN)
    # Only representatives are drawn. Uniting two groups keeps one of their two representatives, so that
    # one pass over all of them leaves no near pair.
    drawn = {chars[group[0]] for group in union.groups(faces)}
    join([outline for outline in outlines if outline.char in drawn], ACROSS, _BOX_ACROSS)
    return [[chars[member] for member in group] for group in union.groups(faces)]


def similar(outlines: Sequence[Outline], tolerance: float, box: float) -> Iterator[tuple[int, int]]:
    """Pairs of outlines whose shape (cosine above tolerance) and box (log aspect) are near each other."""
    shapes = signatures(outlines)
    log_aspect = np.log([outline.aspect for outline in outlines])
    for start in range(0, len(outlines), _BLOCK):
        close = shapes[start : start + _BLOCK] @ shapes[start:].T > tolerance
        left, right = np.nonzero(close)
        left, right = left + start, right + start
        kept = (left < right) & (np.abs(log_aspect[left] - log_aspect[right]) < box)
        yield from zip(left[kept].tolist(), right[kept].tolist(), strict=True)


class _Union:
    """Union-find over 0..size-1."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, a: int, b: int) -> None:
        """Unite two groups."""
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)

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
