"""A character set to learn to learn from, drawn from fonts: many scripts, no download.

A class is a shape (characters with one outline are one class, see shapes.py). Each of its images is
the character in a random face, bent by a slow wobble, turned, sheared, stretched, moved, and drawn
with a thicker or thinner stroke: enough that pixels alone do not tell classes apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks_store.generators.outlines import Outline, load_outlines, script
from tasks_store.generators.raster import fill, shrink, thicken
from tasks_store.generators.shapes import unite
from tasks_store.manifest import Manifest
from tasks_store.schema import Column
from tasks_store.writer import write_store

SIZE = 28
IMAGES = 20
COLUMNS = (Column(name="image", dtype="uint8", shape=(SIZE, SIZE), unit="ink 0..255"),)
SHARES: Mapping[str, float] = MappingProxyType({"train": 0.60, "validation": 0.15, "test": 0.25})
LICENCE = "drawn from DejaVu (Bitstream Vera licence) and STIX fonts (SIL OFL), as shipped with matplotlib"

_FINE = 4  # sub-pixels along a side
_MARGIN = 2.0  # pixels left free at the edges, before the stroke grows


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """How far images of a class differ. Amounts are uniform in -value..value (or low..high)."""

    turn: float = 0.28
    """Rotation, rad."""
    shear: float = 0.28
    """Horizontal shift per height."""
    stretch: float = 0.22
    """log of width / height is changed by up to this."""
    size: tuple[float, float] = (18.0, 24.0)
    """Longer side of the character, pixels."""
    shift: float = 2.5
    """Distance of the centre from the image's centre, pixels along each axis, where there is room."""
    wobble: float = 0.035
    """Amplitude of each of four slow waves, in units of the character's longer side."""
    stroke: tuple[int, int] = (-1, 3)
    """Ink shrunk (negative) or grown by this many quarter pixels."""


@dataclass(frozen=True, slots=True)
class GlyphClass:
    """One class: a representative character, the other characters of that shape, its faces."""

    char: str
    same: tuple[str, ...]
    outlines: tuple[Outline, ...]

    @property
    def name(self) -> str:
        """``latin/U+0041``."""
        return f"{script(self.char).lower()}/U+{ord(self.char):04X}"


def build_glyphs(
    out: str | Path,
    *,
    seed: int = 0,
    images: int = IMAGES,
    max_classes: int | None = None,
    distortion: Distortion | None = None,
) -> Manifest:
    """Draw the set and write it as a store.

    Args:
        out: an absent or empty folder, or a URI.
        seed: of the class split and of every image.
        images: images of each class.
        max_classes: take only so many (a random choice); None takes all.
        distortion: how far images differ; default :class:`Distortion`.

    Returns:
        The manifest: kind "classes", column ``image``, domain = script.

    Raises:
        ImportFailed: matplotlib or its fonts are not there.
        StoreExists: there is something already.
    """
    classes = font_classes()
    if max_classes is not None:
        chosen = np.argsort(np.random.default_rng([seed, 1]).random(len(classes)), kind="stable")
        classes = tuple(classes[number] for number in sorted(chosen[:max_classes].tolist()))
    splits = split_classes(len(classes), seed)
    amount = distortion or Distortion()
    batches = [
        _batch(glyph, split, draw_class(glyph, images, seed, amount))
        for glyph, split in zip(classes, splits, strict=True)
    ]
    return write_store(
        batches,
        out,
        name="glyphs",
        kind="classes",
        columns=COLUMNS,
        source=f"drawn from matplotlib's fonts, seed {seed}, {images} images a class, {amount}",
        licence=LICENCE,
    )


@cache
def font_classes() -> tuple[GlyphClass, ...]:
    """The classes of the installed fonts; computed once a process (some ten seconds).

    Raises:
        ImportFailed: matplotlib or its fonts are not there.
    """
    return tuple(glyph_classes(load_outlines()))


def glyph_classes(outlines: Sequence[Outline]) -> list[GlyphClass]:
    """The classes, ordered by the code point of their representative."""
    by_char: dict[str, list[Outline]] = {}
    for outline in outlines:
        by_char.setdefault(outline.char, []).append(outline)
    return [GlyphClass(group[0], tuple(group[1:]), tuple(by_char[group[0]])) for group in unite(outlines)]


def split_classes(count: int, seed: int) -> list[str]:
    """The split of each class: 60 / 15 / 25 %, a random choice frozen by the seed."""
    order = np.argsort(np.random.default_rng([seed, 0]).random(count), kind="stable")
    bounds = np.rint(np.cumsum(list(SHARES.values())) * count).astype(int)
    ranks = np.empty(count, dtype=int)
    ranks[order] = np.arange(count)
    names = list(SHARES)
    return [names[int(np.searchsorted(bounds, rank, side="right"))] for rank in ranks]


def draw_class(glyph: GlyphClass, images: int, seed: int, amount: Distortion) -> NDArray[np.uint8]:
    """Images of one class, [images, 28, 28]; a function of the seed and the character alone."""
    rng = np.random.default_rng([seed, 2, ord(glyph.char)])
    faces = rng.integers(len(glyph.outlines), size=images)
    return np.stack([draw_image(glyph.outlines[face].edges, rng, amount) for face in faces])


def draw_image(edges: NDArray[np.float64], rng: np.random.Generator, amount: Distortion) -> NDArray[np.uint8]:
    """One image of an outline, [28, 28], 255 = ink."""
    points = _bend(_divide(edges), rng, amount.wobble) @ _affine(rng, amount).T
    low, high = points.min(axis=0), points.max(axis=0)
    longest = rng.uniform(*amount.size)
    scale = min(longest, SIZE - 2 * _MARGIN) / max(high - low)
    room = np.minimum(SIZE / 2 - _MARGIN - (high - low) * scale / 2, amount.shift)
    centre = SIZE / 2 + rng.uniform(-1.0, 1.0, size=2) * room
    pixels = ((points - (low + high) / 2) * scale + centre) * _FINE
    bits = fill(pixels.reshape(-1, 4), SIZE * _FINE)
    radius = int(rng.integers(amount.stroke[0], amount.stroke[1], endpoint=True))
    drawn = thicken(bits, radius) if radius else bits
    if drawn.sum() < 0.6 * bits.sum():  # the stroke was too thin to lose any
        drawn = bits
    return np.rint(shrink(drawn, _FINE) * 255).astype(np.uint8)


def _affine(rng: np.random.Generator, amount: Distortion) -> NDArray[np.float64]:
    """Stretch, then shear, then turn, [2, 2]."""
    angle = rng.uniform(-amount.turn, amount.turn)
    half = rng.uniform(-amount.stretch, amount.stretch) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-amount.shear, amount.shear)], [0.0, 1.0]])
    return np.asarray(turn @ shear @ np.diag([np.exp(half), np.exp(-half)]))


def _divide(edges: NDArray[np.float64], pieces: int = 4, longest: float = 0.15) -> NDArray[np.float64]:
    """Cut long edges so that straight strokes can bend; returns end points, [2 * E, 2]."""
    start, end = edges[:, None, :2], edges[:, None, 2:]
    long = np.hypot(*(edges[:, 2:] - edges[:, :2]).T) > longest
    shares = np.arange(pieces + 1)[None, :, None] / pieces
    cuts = (start + (end - start) * shares)[long]
    cut = np.stack([cuts[:, :-1], cuts[:, 1:]], axis=2).reshape(-1, 2)
    return np.concatenate([edges[~long].reshape(-1, 2), cut])


def _bend(points: NDArray[np.float64], rng: np.random.Generator, amplitude: float) -> NDArray[np.float64]:
    """Move points by slow waves, the same for equal points, so that contours stay closed."""
    waves = rng.uniform(-5.0, 5.0, size=(2, 2, 2))  # [axis moved, wave, direction], rad per unit
    phases = rng.uniform(0.0, 2 * np.pi, size=(2, 2))
    sizes = rng.uniform(-amplitude, amplitude, size=(2, 2))
    angle = np.einsum("pd,awd->paw", points, waves) + phases
    return np.asarray(points + (np.sin(angle) * sizes).sum(axis=2))


def _batch(glyph: GlyphClass, split: str, images: NDArray[np.uint8]) -> object:
    rows = len(images)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([glyph.name] * rows),
            pa.array([split] * rows),
            pa.array([script(glyph.char)] * rows),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(SIZE * SIZE), rows, [None, pa.py_buffer(images)]),
        ],
        names=["group", "split", "domain", "image"],
    )
