"""Encoded pictures become the pixels that a viewer shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks_store.importers.pictures import pixels, why_broken


def _file(picture: Any, form: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, format=form, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize(("form", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_sixteen_bits_are_scaled_to_eight(form: str, dtype: Any) -> None:
    wide = np.array([[0, 256], [32768, 65535]], dtype)
    gray = pixels(_file(Image.fromarray(wide), form), (2, 2))
    assert gray.tolist() == [[0, 1], [128, 255]]
    assert pixels(_file(Image.fromarray(wide), form), (2, 2, 3))[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("values", [np.array([[0.0, 1.0]], np.float32), np.array([[0, 70_000]], np.int32)])
def test_pixels_without_a_known_range_are_broken(values: Any) -> None:
    assert "not of 8 or 16 bits" in why_broken(_file(Image.fromarray(values), "TIFF"))


def test_a_turned_photo_stands_upright() -> None:
    picture = Image.fromarray(np.array([[0, 0], [0, 0], [255, 255], [255, 255]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert pixels(_file(picture, exif=exif), (4, 2)).tolist() == [[255, 255], [255, 255], [0, 0], [0, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    picture = Image.fromarray(np.array([[[9, 9, 9, 255], [9, 9, 9, 0]]], np.uint8))
    file = _file(picture.convert(mode) if mode != "P" else picture.quantize())
    assert Image.open(file).mode == mode
    assert pixels(file, (1, 2)).tolist() == [[9, 255]]
    assert pixels(file, (1, 2, 3)).tolist() == [[[9] * 3, [255] * 3]]
