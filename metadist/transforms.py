"""Steps between a stored column and a tensor. Each is named in the configuration and travels into the bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metadist.config import Transform
from metadist.errors import DataError

Array = NDArray[np.generic]


def apply_transforms(transforms: Sequence[Transform], values: Array) -> NDArray[np.float32]:
    """Transform values (T, N, *stored shape) to float32 (T, N, *input shape): T tasks of N examples.

    Raises:
        DataError: what remains is not numeric.
    """
    for transform in transforms:
        values = {"pixels": pixels}[transform.name](values)
    if values.dtype.kind not in "fiub":
        raise DataError(f"values of type {values.dtype} are not numbers after tasks.transform {list(transforms)}")
    return np.ascontiguousarray(values, dtype=np.float32)


def pixels(values: Array) -> NDArray[np.float32]:
    """Pixels 0..255 (T, N, H, W) or (T, N, H, W, C) to 0..1 with the channel axis first: (T, N, C, H, W)."""
    if values.ndim not in (4, 5):
        raise DataError(f"transform pixels needs images (H, W) or (H, W, C); the column holds {values.shape[2:]}")
    scaled = values.astype(np.float32) / np.float32(255)
    return np.moveaxis(scaled, -1, -3) if values.ndim == 5 else scaled[:, :, None]


def transformed_shape(transforms: Sequence[Transform], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one example after the transforms."""
    return apply_transforms(transforms, np.zeros((1, 1, *shape), np.uint8)).shape[2:]
