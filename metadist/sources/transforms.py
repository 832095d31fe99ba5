"""Steps between a stored column and a tensor. Each is named in the configuration and travels into the bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metadist.config import Transform
from metadist.errors import DataError

Array = NDArray[np.generic]


def apply_transforms(transforms: Sequence[Transform], values: Array) -> NDArray[np.float32]:
    """Transform values (..., *stored shape) to float32 (..., *input shape).

    Raises:
        DataError: what remains is not numeric.
    """
    for transform in transforms:
        values = {"pixels": pixels}[transform.name](values)
    if values.dtype.kind not in "fiub":
        raise DataError(f"values of type {values.dtype} are not numbers after tasks.transform {list(transforms)}")
    return np.ascontiguousarray(values, dtype=np.float32)


def pixels(values: Array) -> NDArray[np.float32]:
    """Pixels 0..255 (..., H, W) or (..., H, W, C) to 0..1 with the channel axis first: (..., C, H, W)."""
    scaled = values.astype(np.float32) / np.float32(255)
    has_channels = scaled.shape[-1] in (1, 3, 4) and scaled.ndim >= 4
    return np.moveaxis(scaled, -1, -3) if has_channels else scaled[..., None, :, :]


def transformed_shape(transforms: Sequence[Transform], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one example after the transforms."""
    return apply_transforms(transforms, np.zeros((1, 1, *shape), np.uint8)).shape[2:]
