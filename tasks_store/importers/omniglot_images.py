"""Reading Omniglot's official pictures: folders or zips of 105 x 105 PNGs, ink black on white."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks_store.errors import ImportFailed

PARTS = ("images_background", "images_evaluation")
_FILE = re.compile(r"(\d{4})_(\d{2})\.png")
_SIZE = 28


class Drawing(NamedTuple):
    """One picture."""

    alphabet: str
    character: str
    """Folder name: character01, ..."""
    char_id: int
    """1..1623, from the file name."""
    drawer: int
    """1..20, from the file name."""
    image: NDArray[np.uint8]
    """28 x 28, 255 = ink."""


def read_drawings(place: Path) -> Iterator[Drawing]:
    """Every picture below a folder (or inside the zips in it), in no promised order.

    Raises:
        ImportFailed: neither part is there, or a file is not a picture.
    """
    found = False
    for part in PARTS:
        if (place / part).is_dir():
            found = True
            for file in sorted((place / part).rglob("*.png")):
                yield _drawing(PurePosixPath(file.as_posix()), file.read_bytes())
        elif (place / f"{part}.zip").is_file():
            found = True
            yield from _zipped(place / f"{part}.zip")
    if not found:
        raise ImportFailed(f"{place} holds none of {', '.join(PARTS)} (folders or .zip), and no Parquet file")


def shrink(image: NDArray[np.uint8], size: int = _SIZE) -> NDArray[np.uint8]:
    """Area average of a square picture, rounded: each target pixel is the mean of what it covers."""
    weights = _area_weights(len(image), size)
    return np.rint(weights @ image.astype(np.float64) @ weights.T).astype(np.uint8)


@cache
def _area_weights(source: int, target: int) -> NDArray[np.float64]:
    """[target, source]: how much of target pixel i is covered by source pixel j; rows sum to 1."""
    scale = source / target
    edges = np.arange(target + 1) * scale
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(source)[None, :]
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return np.asarray(np.clip(overlap, 0, None) / scale)


def _zipped(file: Path) -> Iterator[Drawing]:
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                path = PurePosixPath(name)
                if path.suffix == ".png" and "__MACOSX" not in path.parts:
                    yield _drawing(path, archive.read(name))
    except (zipfile.BadZipFile, OSError) as error:
        raise ImportFailed(f"{file} is not a whole zip file: {error}") from error


def _drawing(path: PurePosixPath, data: bytes) -> Drawing:
    named = _FILE.fullmatch(path.name)
    if named is None or len(path.parts) < 3:
        raise ImportFailed(f"{path}: expected Alphabet/characterNN/NNNN_NN.png")
    ink = 255 - _decode(data, path)
    if ink.ndim != 2 or ink.shape[0] != ink.shape[1]:
        raise ImportFailed(f"{path}: a picture of shape {ink.shape}, expected a square")
    return Drawing(path.parts[-3], path.parts[-2], int(named[1]), int(named[2]), shrink(ink))


def _decode(data: bytes, path: PurePosixPath) -> NDArray[np.uint8]:
    image = pillow()
    try:
        with image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, ValueError) as error:
        raise ImportFailed(f"{path} is not a readable picture: {error}") from error


def pillow() -> Any:
    """The module PIL.Image.

    Raises:
        ImportFailed: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportFailed("reading PNG files needs Pillow: pip install pillow") from error
    return Image
