"""A folder of pictures, ``FOLDER/class/*`` or ``FOLDER/split/class/*``, as a store of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks_store.errors import ImportFailed
from tasks_store.importers.groups import MIN_ROWS
from tasks_store.importers.omniglot_images import pillow
from tasks_store.importers.splits import SHARES, cut, from_lists, load_split_file, parse_shares
from tasks_store.importers.summary import Summary
from tasks_store.manifest import Manifest
from tasks_store.ordering import Groups
from tasks_store.rows import collect_table
from tasks_store.schema import Column
from tasks_store.storage import Location
from tasks_store.writer import refuse_overwriting, write_sorted

SUFFIXES = (".png", ".jpg", ".jpeg")


def import_images(
    source: str | Path,
    out: str | Path,
    *,
    size: int,
    gray: bool = False,
    split: str | None = None,
    split_file: str | Path | None = None,
    split_dirs: bool = False,
    name: str = "",
    licence: str = "",
) -> tuple[Manifest, Summary, list[str]]:
    """Write a store of square uint8 images (size, size) or (size, size, 3).

    Pictures are decoded twice, once to find the broken ones and once to be written, so that one row group is held.

    Args:
        source: folder with a folder for each class, or, with ``split_dirs``, for each split.
        out: an absent or empty folder, or a URI.
        size: pixels of a side; pictures are resized without keeping their proportions.
        gray: one channel, not three.
        split: shares of the classes; default 0.7,0.1,0.2.
        split_file: JSON {split: [class, ...]} instead.
        split_dirs: the first level of folders is the split.
        name: of the data set; default the folder's.
        licence: of the data.

    Returns:
        The manifest, the counts, and the files that could not be read, each with why.

    Raises:
        ImportFailed: no such folders, a class in two splits, or nothing left.
        StoreExists: ``out`` holds something.
    """
    if size < 1:
        raise ImportFailed(f"--size {size}: expected the pixels of a side, 1 or more")
    if sum((split is not None, split_file is not None, split_dirs)) > 1:
        raise ImportFailed("give one of --split, --split-file and --split-dirs")
    location = Location.of(out)
    refuse_overwriting(location)
    folder = Path(source).expanduser()
    column = Column(name="image", dtype="uint8", shape=(size, size) if gray else (size, size, 3), unit="0..255")
    summary, broken = Summary(), list[str]()
    found, owner = _classes(folder, split_dirs)
    whole: dict[str, list[Path]] = {}
    for label, files in found.items():
        summary.read += len(files)
        why = {file: _why_broken(file) for file in files}
        broken += [f"{file}: {reason}" for file, reason in why.items() if reason]
        whole[label] = [file for file in files if not why[file]]
    summary.drop("broken", len(broken))
    small = [label for label, files in whole.items() if len(files) < MIN_ROWS]
    summary.too_small = len(small)
    summary.drop(f"in classes of fewer than {MIN_ROWS} images", sum(len(whole.pop(label)) for label in small))
    if not whole:
        raise ImportFailed(
            f"{folder}: no class of {MIN_ROWS} or more images is left ({len(broken)} broken): expected "
            f"{'FOLDER/split/class/*' if split_dirs else 'FOLDER/class/*'} of {', '.join(SUFFIXES)}"
            f"{'' if split_dirs else ' (FOLDER/split/class/* needs --split-dirs)'}"
        )
    if split_file is not None:
        owner = from_lists(whole, load_split_file(split_file), str(split_file))
    elif not split_dirs:
        owner = cut(whole, parse_shares(split) if split else SHARES, 0, "classes")
    stored: dict[str, Groups] = {name: Groups() for name in sorted({owner[label] for label in whole})}
    for label in sorted(whole):
        stored[owner[label]].names.append(label)
        stored[owner[label]].domains.append("")
        stored[owner[label]].counts.append(len(whole[label]))
    rows = 0
    for groups in stored.values():
        groups.first_row = rows
        rows += sum(groups.counts)
    summary.kept, summary.groups = rows, len(whole)
    summary.splits = {name: len(groups.names) for name, groups in stored.items()}
    order = [(label, part, file) for part, groups in stored.items() for label in groups.names for file in whole[label]]

    def fetch(start: int, stop: int) -> Any:
        mine = order[start:stop]
        pixels = np.stack([_pixels(file, size, gray) for _, _, file in mine])
        table = pa.table(
            {
                "group": [label for label, _, _ in mine],
                "split": [part for _, part, _ in mine],
                "image": pa.array([image.tobytes() for image in pixels], pa.binary(column.nbytes)),
            }
        )
        return collect_table([table], [column], "classes")

    manifest = write_sorted(
        stored,
        fetch,
        out,
        name=name or folder.resolve().name,
        kind="classes",
        columns=[column],
        source=folder.name,
        licence=licence,
    )
    return manifest, summary, broken


def _classes(folder: Path, split_dirs: bool) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Files of each class, sorted, and with ``split_dirs`` the split of each class."""
    if not folder.is_dir():
        raise ImportFailed(f"--from {folder}: there is no such folder")
    found: dict[str, list[Path]] = {}
    owner: dict[str, str] = {}
    for part in _folders(folder) if split_dirs else [folder]:
        for place in _folders(part):
            if owner.setdefault(place.name, part.name) != part.name:
                raise ImportFailed(
                    f"class {place.name!r} lies in two splits, {owner[place.name]!r} and {part.name!r}: a class is "
                    "split whole, never its images; put them into one FOLDER/class and cut with --split 0.7,0.1,0.2"
                )
            found[place.name] = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
    return found, owner


def _folders(folder: Path) -> Iterator[Path]:
    return iter(sorted(place for place in folder.iterdir() if place.is_dir()))


def _open(file: Path) -> Any:
    """The decoded picture; a file that would be a bomb is an error, not a warning."""
    image = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("error", image.DecompressionBombWarning)
        with image.open(file) as picture:
            picture.load()
            return picture


def _why_broken(file: Path) -> str:
    """Why a picture cannot be decoded; '' when it can."""
    image = pillow()
    try:
        _open(file)
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError, image.DecompressionBombWarning) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def _pixels(file: Path, size: int, gray: bool) -> Any:
    picture = _open(file).convert("L" if gray else "RGB")
    return np.asarray(picture.resize((size, size), pillow().Resampling.BOX if size < min(picture.size) else None))
