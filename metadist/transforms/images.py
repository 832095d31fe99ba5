"""Images: pixels to numbers, and images moved and mirrored in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metadist.errors import DataError
from metadist.transforms.step import Array, Draws, State, Step


def pixels(values: Array) -> NDArray[np.float32]:
    """Pixels 0..255 (T, N, H, W) or (T, N, H, W, C) to 0..1 with the channel axis first: (T, N, C, H, W)."""
    _check_images(values, "pixels")
    scaled = values.astype(np.float32, copy=False) / np.float32(255)
    return np.moveaxis(scaled, -1, -3) if values.ndim == 5 else scaled[:, :, None]


def pixels_step() -> Step:
    """See `pixels`."""
    return Step(lambda values, state: pixels(values))


def augment_step(*, flip: bool, shift: int) -> Step:
    """Images (T, N, H, W, ...) moved by up to ``shift`` pixels along both axes (zeros come in), and mirrored left to
    right with probability 1/2 where ``flip``. Each image by itself, in training only."""

    def apply(values: Array, state: State) -> Array:
        _check_images(values, "augment")
        return values

    def augment(values: Array, draws: Draws) -> Array:
        _check_images(values, "augment")
        moved = np.empty_like(values)
        for task, draw in enumerate(draws):
            mirrored = [uniform < 0.5 for uniform in draw.random((values.shape[1],)).tolist()]
            by = draw.integers(-shift, shift + 1, (values.shape[1], 2)).tolist()
            for place, image in enumerate(values[task]):
                image = image[:, ::-1] if flip and mirrored[place] else image
                moved[task, place] = shifted(image, *by[place])
        return moved

    return Step(apply, augment=augment)


def shifted(image: Array, down: int, right: int) -> Array:
    """An image (H, W, ...) moved; what leaves it is lost, zeros come in.

    >>> shifted(np.array([[1, 2], [3, 4]]), 1, -1).tolist()
    [[0, 0], [2, 0]]
    """
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    rows, columns = _overlap(down, height), _overlap(right, width)
    out[rows[0], columns[0]] = image[rows[1], columns[1]]
    return out


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    by = max(-size, min(size, by))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


def _check_images(values: Array, name: str) -> None:
    if values.ndim not in (4, 5):
        raise DataError(f"transform {name} needs images (H, W) or (H, W, C); the column holds {values.shape[2:]}")
