"""A folder of pictures, ``FOLDER/class/*``, ``FOLDER/split/class/*`` or ``FOLDER/parent/class/*``, as a store of
classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks_store.errors import ImportFailed, WrongOptions
from tasks_store.importers.groups import MIN_ROWS
from tasks_store.importers.pictures import pixels, why_broken
from tasks_store.importers.splits import SHARES, cut, from_lists, load_split_file, parse_shares
from tasks_store.importers.summary import Summary
from tasks_store.manifest import Manifest
from tasks_store.ordering import Groups
from tasks_store.rows import collect_table
from tasks_store.schema import Column
from tasks_store.storage import Location
from tasks_store.writer import refuse_overwriting, write_sorted

PARENT = "parent"
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
    split_by: str | None = None,
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
        split_by: "parent": the first level of folders is split whole, by ``split`` or ``split_file``, and becomes the
            domain; classes are called ``parent/class``.
        name: of the data set; default the folder's.
        licence: of the data.

    Returns:
        The manifest, the counts, and the files that could not be read, each with why.

    Raises:
        WrongOptions: ``size`` is no size, or the splits are said twice.
        ImportFailed: no such folders, a class in two splits, or nothing left.
        StoreExists: ``out`` holds something.
    """
    if size < 1:
        raise WrongOptions(f"--size {size}: expected the pixels of a side, 1 or more")
    if sum((split is not None, split_file is not None, split_dirs)) > 1:
        raise WrongOptions("give one of --split, --split-file and --split-dirs")
    if split_by not in (None, PARENT) or (split_by and split_dirs):
        raise WrongOptions(
            f"--split-by {split_by}: pictures have {PARENT!r} (FOLDER/parent/class/*) only, and not with --split-dirs"
        )
    location = Location.of(out)
    refuse_overwriting(location)
    folder = Path(source).expanduser()
    shape = (size, size) if gray else (size, size, 3)
    column = Column(name="image", dtype="uint8", shape=shape, unit="0..255")
    summary, broken = Summary(), list[str]()
    found, above = _classes(folder, split_dirs=split_dirs, parents=bool(split_by))
    whole: dict[str, list[Path]] = {}
    for label, files in found.items():
        summary.read += len(files)
        why = {file: why_broken(file) for file in files}
        broken += [f"{file}: {reason}" for file, reason in why.items() if reason]
        whole[label] = [file for file in files if not why[file]]
    summary.drop("broken", len(broken))
    small = [label for label, files in whole.items() if len(files) < MIN_ROWS]
    summary.too_small = len(small)
    summary.drop(f"in classes of fewer than {MIN_ROWS} images", sum(len(whole.pop(label)) for label in small))
    if not whole:
        level = "split/" if split_dirs else f"{PARENT}/" if split_by else ""
        raise ImportFailed(
            f"{folder}: no class of {MIN_ROWS} or more images is left ({len(broken)} broken): expected "
            f"FOLDER/{level}class/* of {', '.join(SUFFIXES)}"
            f"{'' if split_dirs or split_by else ' (FOLDER/split/class/* needs --split-dirs, or --split-by parent)'}"
        )
    owner = above
    if not split_dirs:
        units = {label: above[label] if split_by else label for label in whole}
        if split_file is not None:
            cuts = from_lists(units.values(), load_split_file(split_file), str(split_file))
        else:
            shares = parse_shares(split) if split else SHARES
            cuts = cut(units.values(), shares, 0, "parents" if split_by else "classes")
        owner = {label: cuts[unit] for label, unit in units.items()}
    stored: dict[str, Groups] = {name: Groups() for name in sorted({owner[label] for label in whole})}
    for label in sorted(whole):
        stored[owner[label]].names.append(label)
        stored[owner[label]].domains.append(above[label] if split_by else "")
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
        images = np.stack([pixels(file, shape) for _, _, file in mine])
        table = pa.table(
            {
                "group": [label for label, _, _ in mine],
                "split": [part for _, part, _ in mine],
                "image": pa.array([image.tobytes() for image in images], pa.binary(column.nbytes)),
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


def _classes(folder: Path, *, split_dirs: bool, parents: bool) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Files of each class, sorted, and the folder above it: its split, its parent, or nothing of interest."""
    if not folder.is_dir():
        raise ImportFailed(f"--from {folder}: there is no such folder")
    found: dict[str, list[Path]] = {}
    above: dict[str, str] = {}
    for part in _folders(folder) if split_dirs or parents else [folder]:
        for place in _folders(part):
            label = f"{part.name}/{place.name}" if parents else place.name
            if above.setdefault(label, part.name) != part.name:
                raise ImportFailed(
                    f"class {label!r} lies in two splits, {above[label]!r} and {part.name!r}: a class is "
                    "split whole, never its images; put them into one FOLDER/class and cut with --split 0.7,0.1,0.2"
                )
            found[label] = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
    return found, above


def _folders(folder: Path) -> Iterator[Path]:
    return iter(sorted(place for place in folder.iterdir() if place.is_dir()))
