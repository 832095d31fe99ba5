"""The characters: outlines from the DejaVu and STIXGeneral fonts that matplotlib ships.

Fonts are read unhinted, in font units, so that the outline does not depend on a pixel size or a
hinting engine. Only letters and digits without a decomposition are taken: an accent or a compound
differs from its base by a few pixels at 28 x 28.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks_store.errors import ImportFailed

FACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
)
"""The first face that has a character is its base face."""

_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lo", "Nd", "Nl"})
_MOVE, _LINE, _CURVE3, _CURVE4, _CLOSE = 1, 2, 3, 4, 79
_CURVE_SHARES = np.linspace(0.0, 1.0, 6)[:, None, None]
_UNIT = 1000.0


@dataclass(frozen=True, slots=True)
class Outline:
    """The flattened outline of one character in one face."""

    char: str
    face: int
    """Number in FACES."""
    edges: NDArray[np.float64]
    """[E, 4]: x0, y0, x1, y1; y downwards; the longer side of the box is 1, centred on 0."""
    aspect: float
    """Width of the box / height."""


def wanted(char: str) -> bool:
    """Whether a character may be in the set.

    Example:
        >>> [wanted(char) for char in "Aé9.Ж"]
        [True, False, True, False, True]
    """
    return unicodedata.category(char) in _CATEGORIES and not unicodedata.decomposition(char)


def script(char: str) -> str:
    """First word of the Unicode name.

    Example:
        >>> script("Ж")
        'CYRILLIC'
    """
    return unicodedata.name(char, "UNNAMED").split()[0]


def load_outlines() -> list[Outline]:
    """Every wanted character in every face, ordered by face, then code point.

    Raises:
        ImportFailed: matplotlib or one of its fonts is not there.
    """
    return [outline for number in range(len(FACES)) for outline in _face(number)]


def _face(number: int) -> Iterator[Outline]:
    try:
        import matplotlib
        from matplotlib import ft2font
    except ImportError as error:
        raise ImportFailed("drawing glyphs needs matplotlib (for its fonts): pip install matplotlib") from error
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / FACES[number]
    if not file.is_file():
        raise ImportFailed(f"matplotlib {matplotlib.__version__} has no font {file}: reinstall it")
    font = ft2font.FT2Font(str(file))
    font.set_size(_UNIT, 72)
    names = vars(ft2font)  # matplotlib 3.10 moved the flag into an enumeration
    flags = names["LoadFlags"].NO_HINTING if "LoadFlags" in names else names["LOAD_NO_HINTING"]
    chars, vertices, codes = [], [], []
    for code in sorted(font.get_charmap()):
        if wanted(chr(code)):
            font.load_char(code, flags=flags)
            path, kinds = font.get_path()
            if len(kinds):
                chars.append(chr(code))
                vertices.append(np.asarray(path, dtype=np.float64))
                codes.append(np.asarray(kinds, dtype=np.int64))
    glyph = np.repeat(np.arange(len(chars)), [len(kinds) for kinds in codes])
    edges, source = _edges(np.concatenate(vertices), np.concatenate(codes))
    order = np.argsort(glyph[source], kind="stable")
    bounds = np.searchsorted(glyph[source][order], np.arange(1, len(chars)))
    for char, part in zip(chars, np.split(edges[order], bounds), strict=True):
        outline = _outline(char, number, part)
        if outline is not None:
            yield outline


def _outline(char: str, face: int, edges: NDArray[np.float64]) -> Outline | None:
    """Normalise; None for a blank glyph."""
    if not len(edges):
        return None
    points = edges.reshape(-1, 2) * (1.0, -1.0)
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = high - low
    if min(width, height) <= 0:
        return None
    edges = ((points - (low + high) / 2) / max(width, height)).reshape(-1, 4)
    return Outline(char, face, edges, float(width / height))


def _edges(vertices: NDArray[np.float64], codes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Straight edges of all contours, each closed, [E, 4], and a vertex that each belongs to, [E].

    Paths of many glyphs may follow each other: each contour starts with a move. The current point is
    the vertex before, and a curve's code stands at each of its points.
    """
    lines = np.flatnonzero(codes == _LINE)
    parts, owners = [np.concatenate([vertices[lines - 1], vertices[lines]], axis=1)], [lines]
    for code, size in ((_CURVE3, 2), (_CURVE4, 3)):
        first = np.flatnonzero(codes == code)[::size]
        parts.append(_curves([vertices[first + step] for step in range(-1, size)]))
        owners.append(np.tile(first, len(_CURVE_SHARES) - 1))
    starts = np.flatnonzero(codes == _MOVE)
    ends = np.append(starts[1:], len(codes)) - 1
    ends = np.where(codes[ends] == _CLOSE, ends - 1, ends)
    parts.append(np.concatenate([vertices[ends], vertices[starts]], axis=1))
    owners.append(starts)
    edges, source = np.concatenate(parts), np.concatenate(owners)
    kept = (edges[:, :2] != edges[:, 2:]).any(axis=1)
    return edges[kept], source[kept]


def _curves(control: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Bezier curves, degree + 1 arrays of [C, 2], as edges [steps * C, 4] (de Casteljau)."""
    points = [point[None] for point in control]
    while len(points) > 1:
        points = [a + (b - a) * _CURVE_SHARES for a, b in pairwise(points)]
    return np.concatenate([points[0][:-1], points[0][1:]], axis=2).reshape(-1, 4)
