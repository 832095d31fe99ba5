"""Encoded pictures (PNG, JPEG and what else Pillow reads) as uint8 pixels: files, or the bytes of a column."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks_store.errors import ImportFailed
from tasks_store.importers.omniglot_images import pillow

BYTES, PATH = "bytes", "path"
MAX_SIDE = 1024
"""Pixels of a stored picture's side; more would be 3 MB a picture, of which a row group holds a whole class."""


def pixels(source: Path | BinaryIO, shape: Sequence[int]) -> NDArray[np.uint8]:
    """One picture of shape (height, width), gray, or (height, width, 3); proportions are not kept."""
    picture = _open(source).convert("L" if len(shape) == 2 else "RGB")
    height, width = shape[:2]
    smaller = max(height, width) < min(picture.size)
    return np.asarray(picture.resize((width, height), pillow().Resampling.BOX if smaller else None), dtype=np.uint8)


def why_broken(source: Path | BinaryIO) -> str:
    """Why a picture cannot be decoded; '' when it can."""
    try:
        _open(source)
    except _damage() as error:
        return _reason(error)
    return ""


def is_picture(kind: Any) -> bool:
    """Whether a column's type is that of Hugging Face's Image: a struct of bytes and path."""
    if not pa.types.is_struct(kind) or kind.get_field_index(BYTES) < 0:
        return False
    held = kind.field(BYTES).type
    return bool(pa.types.is_binary(held) or pa.types.is_large_binary(held))


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Refuse a shape that no picture has.

    Raises:
        ImportFailed: not (height, width) or (height, width, 3).
    """
    if len(shape) not in (2, 3) or min(shape) < 1 or max(shape) > MAX_SIDE or (len(shape) == 3 and shape[2] != 3):
        given = ",".join(map(str, shape)) or "none"
        raise ImportFailed(
            f"--value {name!r} holds pictures, and --shape is {given}: say what they become, 28,28 (gray) or 28,28,3, "
            f"of at most {MAX_SIDE} a side"
        )


def encoded(column: Any) -> Any:
    """The bytes of a column of pictures; null where a row has none."""
    return pc.struct_field(column, BYTES)


def decoded(column: Any, name: str, shape: Sequence[int]) -> Any:
    """A column of pictures as fixed-size bytes of pixels.

    Raises:
        ImportFailed: a picture that cannot be decoded; nothing is left out of a table unseen.
    """
    rows = []
    for row in column.to_pylist():
        try:
            picture = pixels(io.BytesIO(row[BYTES]), shape)
        except _damage() as error:
            raise ImportFailed(
                f"column {name!r}: the picture {row.get(PATH) or '(without a path)'} cannot be decoded: "
                f"{_reason(error)}; repair the table, or leave the row out with --where"
            ) from error
        rows.append(picture.tobytes())
    return pa.array(rows, pa.binary(int(np.prod(shape))))


def _damage() -> tuple[type[Exception], ...]:
    """What Pillow raises for a picture that is none."""
    image = pillow()
    return (OSError, ValueError, SyntaxError, image.DecompressionBombError, image.DecompressionBombWarning)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _open(source: Path | BinaryIO) -> Any:
    """The picture as a viewer shows it: upright, of 8 bits, on white. A bomb is an error, not a warning."""
    image = pillow()
    from PIL.ImageOps import exif_transpose

    with warnings.catch_warnings():
        warnings.simplefilter("error", image.DecompressionBombWarning)
        with image.open(source) as picture:
            picture.load()
            return _on_white(_of_8_bits(exif_transpose(picture)))


def _of_8_bits(picture: Any) -> Any:
    """Pillow itself would cut 16 bits off at 255."""
    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    wide = np.asarray(picture)
    if picture.mode == "F" or wide.min() < 0 or wide.max() > 65535:
        raise ValueError(f"its pixels (mode {picture.mode}, {wide.min()} to {wide.max()}) are not of 8 or 16 bits")
    return pillow().fromarray(((wide.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))


def _on_white(picture: Any) -> Any:
    """Without this, what shows through would be whatever colour the file has there."""
    if not picture.has_transparency_data:
        return picture
    above = picture.convert("RGBA")
    return pillow().alpha_composite(pillow().new("RGBA", above.size, "white"), above)
