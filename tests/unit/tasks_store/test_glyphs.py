"""The glyph set: shapes are classes, test shapes are unseen, pixels are not enough."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks_store import EpisodeSpec, Store, draw_episode, load_split
from tasks_store.generators import glyphs as module
from tasks_store.generators.glyphs import SHARES, GlyphClass, build_glyphs, font_classes, split_classes
from tasks_store.generators.outlines import FACES, Outline, wanted
from tasks_store.generators.raster import fill, shrink, thicken


@pytest.fixture(scope="module")
def classes() -> tuple[GlyphClass, ...]:
    return font_classes()


def test_size_of_the_full_set(classes: tuple[GlyphClass, ...]) -> None:
    splits = split_classes(len(classes), 0)
    assert len(classes) >= 600
    for split, share in SHARES.items():
        assert abs(splits.count(split) / len(classes) - share) < 0.01
    assert splits != split_classes(len(classes), 1)
    assert len({unicodedata.name(glyph.char).split()[0] for glyph in classes}) >= 15
    assert {outline.face for glyph in classes for outline in glyph.outlines} == set(range(len(FACES)))


def test_known_look_alikes_are_one_class(classes: tuple[GlyphClass, ...]) -> None:
    owner = {char: glyph.char for glyph in classes for char in (glyph.char, *glyph.same)}
    groups = (
        "A\u0391\u0410",  # Latin, Greek, Cyrillic
        "B\u0392\u0412",
        "Oo0\u039f\u03bf\u041e\u043e",
        "Ss\u0405\u0455",
        "Xx\u03a7\u0425",
        "Il\u0399\u0406\u05d5",  # a bare stroke, also a Hebrew one
    )
    for group in groups:
        assert len({owner[char] for char in group}) == 1, group
    assert len({owner[char] for char in "AEKMRWaegkw"}) > 8
    assert sum(1 + len(glyph.same) for glyph in classes) == len(owner), "a character is in one class"


def test_no_test_class_has_an_outline_of_a_training_class(classes: tuple[GlyphClass, ...]) -> None:
    """Independent of how classes were united: larger raster, no blur, and in every face.

    Two outlines are called equal when, each stretched to a square, less than 2 % of their common ink
    differs, and their boxes have nearly one aspect.
    """
    splits = split_classes(len(classes), 0)
    for face in range(len(FACES)):
        drawn = [
            (split, _square(outline), outline.aspect)
            for glyph, split in zip(classes, splits, strict=True)
            for outline in glyph.outlines
            if outline.face == face
        ]
        held = [(ink, aspect) for split, ink, aspect in drawn if split != "train"]
        train = np.stack([ink for split, ink, _ in drawn if split == "train"])
        train_aspect = np.array([aspect for split, _, aspect in drawn if split == "train"])
        ink = np.stack([row for row, _ in held])
        common = ink @ train.T
        union = ink.sum(axis=1)[:, None] + train.sum(axis=1) - common
        near = np.abs(np.log(np.array([aspect for _, aspect in held]))[:, None] - np.log(train_aspect)) < 0.1
        assert not ((common / union > 0.98) & near).any(), FACES[face]


def _square(outline: Outline, size: int = 24) -> NDArray[np.float32]:
    points = outline.edges.reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return fill(((points - low) / (high - low) * size).reshape(-1, 4), size).ravel().astype(np.float32)


def test_the_store(glyphs: Store) -> None:
    assert {name: split.groups for name, split in glyphs.splits.items()} == {
        "train": 120,
        "validation": 30,
        "test": 50,
    }
    names: set[str] = set()
    for split in glyphs.splits:
        data = load_split(glyphs, split)
        assert set(data.counts.tolist()) == {20}
        assert data.arrays["image"].shape[1:] == (28, 28)
        assert data.arrays["image"].dtype == np.uint8
        assert names.isdisjoint(data.names)
        names.update(data.names)
        for name, domain in zip(data.names, data.domains, strict=True):
            script, code = name.split("/U+")
            assert script == domain.lower() == unicodedata.name(chr(int(code, 16))).split()[0].lower()
    assert len(names) == 200


def test_images_are_ink_on_nothing_inside_the_frame(glyphs: Store) -> None:
    images = load_split(glyphs, "train").arrays["image"]
    ink = images.astype(np.float64).mean(axis=(1, 2)) / 255
    assert ink.min() > 0.005, "no blank image"
    assert ink.max() < 0.7, "at most a blob"
    assert images.max() == 255
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert not border.any(), "characters are not cut off"
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images), "no image twice"


@pytest.mark.parametrize("measure", ["cosine", "euclid"])
def test_pixel_nearest_neighbour_is_poor(glyphs: Store, measure: str) -> None:
    """600 episodes, 5-way 1-shot, 15 queries a class. Full set, test split: cosine 54.3, euclid 52.3 %."""
    data = load_split(glyphs, "train")
    pixels = data.arrays["image"].reshape(data.num_rows, -1).astype(np.float64)
    if measure == "cosine":
        pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    spec, rng, right = EpisodeSpec(ways=5, shots=1, queries=15), np.random.default_rng(1), []
    for _ in range(600):
        episode = draw_episode(data.counts, data.offsets, spec, rng)
        support, query = pixels[episode.support_rows], pixels[episode.query_rows]
        distance = (support**2).sum(axis=1) - 2 * query @ support.T
        right.append((distance.argmin(axis=1) == episode.query_labels).mean())
    assert 0.45 <= np.mean(right) <= 0.60, np.mean(right)


def test_two_builds_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_glyphs(tmp_path / "a", max_classes=8, images=3)
    second = build_glyphs(tmp_path / "b", max_classes=8, images=3)
    assert first.fingerprint() == second.fingerprint()
    assert [file.sha256 for file in first.files] == [file.sha256 for file in second.files]
    assert build_glyphs(tmp_path / "c", max_classes=8, images=3, seed=1).fingerprint() != first.fingerprint()
    assert module.font_classes() is font_classes()


def test_wanted_characters() -> None:
    assert wanted("\u0416")
    assert not any(wanted(char) for char in ("\u00e9", ".", "\u00b7", "\u0301", "\u2192", "\u2460"))


def test_fill_follows_the_non_zero_rule() -> None:
    def box(low: float, high: float, clockwise: bool) -> list[list[float]]:
        corners = [(low, low), (high, low), (high, high), (low, high)]
        corners = corners if clockwise else corners[::-1]
        return [[*a, *b] for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)]

    hole = fill(np.array(box(1, 7, True) + box(3, 5, False)), 8)
    assert hole.sum() == 36 - 4
    assert fill(np.array(box(1, 7, True) + box(3, 5, True)), 8).sum() == 36
    assert fill(np.array(box(-2, 10, True)), 8).all(), "ink beyond the frame is cut"
    assert shrink(hole, 8)[0, 0] == 32 / 64


def test_thicken() -> None:
    dot = np.zeros((9, 9), dtype=bool)
    dot[4, 4] = True
    assert thicken(dot, 1).sum() == 5
    assert thicken(dot, 2).sum() == 13
    assert (thicken(thicken(dot, 2), -2) == dot).all()
    assert not thicken(dot, -1).any()
