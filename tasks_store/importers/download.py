"""Fetch pinned files over HTTP: what does not match its sha256 never gets its final name."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from tasks_store.errors import ImportFailed

_BLOCK = 1 << 16
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file on the web and what it must be."""

    url: str
    sha256: str
    bytes: int


_OMNIGLOT_URL = "https://github.com/brendenlake/omniglot/raw/master/python"
OMNIGLOT: Mapping[str, Pinned] = MappingProxyType(
    {
        "images_background.zip": Pinned(
            f"{_OMNIGLOT_URL}/images_background.zip",
            "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
            9464212,
        ),
        "images_evaluation.zip": Pinned(
            f"{_OMNIGLOT_URL}/images_evaluation.zip",
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
            6462886,
        ),
    }
)
"""Digests and sizes as recorded by TensorFlow Datasets (url_checksums/omniglot.txt); they were taken
from there, not computed here from a download."""


def download_omniglot(folder: str | Path, *, files: Mapping[str, Pinned] = OMNIGLOT) -> Path:
    """Fetch the official zips into a folder, which ``import_omniglot`` then reads.

    Args:
        folder: is made when absent; files already there with the right digest are kept.
        files: {name: what and from where}; another mirror with the same digests is fine.

    Returns:
        The folder.

    Raises:
        ImportFailed: no connection, or the bytes are not those pinned.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    for name, pinned in files.items():
        target = place / name
        if not (target.is_file() and _digest(target) == pinned.sha256):
            fetch(pinned, target)
    return place


def fetch(pinned: Pinned, target: Path) -> None:
    """Fetch one file; it appears whole and right, or not at all.

    Raises:
        ImportFailed: no connection, too many bytes, or another digest.
    """
    handle, staged = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            found, size = _stream(pinned, sink)
            sink.flush()
            os.fsync(sink.fileno())
        if found != pinned.sha256:
            raise ImportFailed(
                f"{pinned.url}: sha256 {found} ({size} bytes), expected {pinned.sha256} "
                f"({pinned.bytes} bytes): not kept; try again, or download it yourself and import with --from"
            )
        os.replace(staged, target)
    finally:
        Path(staged).unlink(missing_ok=True)


def _stream(pinned: Pinned, sink: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(pinned.url, timeout=_TIMEOUT_S) as answer:
            while (block := answer.read(_BLOCK)) and size <= pinned.bytes:
                size += len(block)
                digest.update(block)
                sink.write(block)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ImportFailed(
            f"cannot fetch {pinned.url}: {error}; download it yourself and import with --from"
        ) from error
    return digest.hexdigest(), size


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
