"""The pictures of a folder by class: ``FOLDER/class/*``, ``FOLDER/split/class/*`` or ``FOLDER/parent/class/*``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tasks_store.errors import ImportFailed

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass
class Found:
    """What lies in a folder; every file is in ``files`` or in ``skipped``."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    """Of each class, sorted."""
    above: dict[str, str] = field(default_factory=dict)
    """The folder above each class: its split, its parent, or nothing of interest."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Names below the folder, by reason."""


def find_pictures(folder: Path, *, split_dirs: bool, parents: bool) -> Found:
    """The pictures of each class.

    Raises:
        ImportFailed: no such folder, or a class in two splits.
    """
    if not folder.is_dir():
        raise ImportFailed(f"--from {folder}: there is no such folder")
    found = Found()
    for part in _folders(folder, folder, found) if split_dirs or parents else [folder]:
        for place in _folders(part, folder, found):
            label = f"{part.name}/{place.name}" if parents else place.name
            if found.above.setdefault(label, part.name) != part.name:
                raise ImportFailed(
                    f"class {label!r} lies in two splits, {found.above[label]!r} and {part.name!r}: a class is "
                    "split whole, never its images; put them into one FOLDER/class and cut with --split 0.7,0.1,0.2"
                )
            found.files[label] = _pictures(place, folder, found)
    return found


def _pictures(place: Path, folder: Path, found: Found) -> list[Path]:
    pictures = []
    for entry in _visible(place, folder, found):
        if entry.is_dir():
            inside = [file for file in sorted(entry.rglob("*")) if not file.is_dir()]
            _skip(found, "in a folder inside a class", inside, folder)
        elif entry.suffix.lower() in SUFFIXES:
            pictures.append(entry)
        else:
            _skip(found, f"none of {', '.join(SUFFIXES)}", [entry], folder)
    return pictures


def _folders(place: Path, folder: Path, found: Found) -> list[Path]:
    """The folders in a place where no file belongs."""
    entries = _visible(place, folder, found)
    _skip(found, "outside the folder of a class", [entry for entry in entries if not entry.is_dir()], folder)
    return [entry for entry in entries if entry.is_dir()]


def _visible(place: Path, folder: Path, found: Found) -> list[Path]:
    """Without what systems leave behind (``._1.png``, ``.thumbnails``)."""
    entries = sorted(place.iterdir())
    _skip(found, "name begins with a dot", [entry for entry in entries if entry.name.startswith(".")], folder)
    return [entry for entry in entries if not entry.name.startswith(".")]


def _skip(found: Found, reason: str, entries: list[Path], folder: Path) -> None:
    if entries:
        found.skipped.setdefault(reason, []).extend(str(entry.relative_to(folder)) for entry in entries)
