"""A folder of pictures as a store of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks_store.errors import ImportFailed, WrongOptions
from tasks_store.importers.groups import MIN_ROWS, drop_small, split_units, stored_groups
from tasks_store.importers.image_folders import SUFFIXES, Found, find_pictures
from tasks_store.importers.pictures import MAX_SIDE, pixels, why_broken
from tasks_store.importers.splits import check_splits
from tasks_store.importers.summary import Summary
from tasks_store.manifest import Manifest
from tasks_store.ordering import Groups
from tasks_store.rows import collect_table
from tasks_store.schema import Column
from tasks_store.storage import Location
from tasks_store.writer import Rows, refuse_overwriting, write_sorted

PARENT = "parent"


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
        size: pixels of a side, up to 1024; pictures are resized without keeping their proportions.
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
    _check_options(size, split, split_file, split_dirs, split_by)
    location = Location.of(out)
    refuse_overwriting(location)
    folder = Path(source).expanduser()
    found = find_pictures(folder, split_dirs=split_dirs, parents=bool(split_by))
    summary = Summary(skipped=found.skipped)
    whole, broken = _whole(found, summary)
    small = f"in classes of fewer than {MIN_ROWS} images"
    counts = drop_small({label: len(files) for label, files in whole.items()}, summary, small)
    if not counts:
        raise _nothing_left(folder, len(broken), split_dirs, split_by)
    above = {label: found.above[label] for label in counts}
    if split_dirs:
        owner = above
        check_splits(set(found.above.values()), f"--split-dirs {folder}")
        if empty := sorted(set(found.above.values()) - set(owner.values())):
            raise ImportFailed(f"--split-dirs {folder}: split {empty[0]!r} has no class of {MIN_ROWS} or more images")
    else:
        units = above if split_by else {label: label for label in counts}
        what = "parents" if split_by else "classes"
        owner = split_units(units, what, split=split, split_file=split_file)
    stored = stored_groups(counts, owner, above if split_by else {})
    summary.splits = {name: len(groups.names) for name, groups in stored.items()}
    column = Column(name="image", dtype="uint8", shape=(size, size) if gray else (size, size, 3), unit="0..255")
    manifest = write_sorted(
        stored,
        _rows(stored, whole, column),
        out,
        name=name or folder.resolve().name,
        kind="classes",
        columns=[column],
        source=folder.name,
        licence=licence,
    )
    return manifest, summary, broken


def _check_options(
    size: int, split: str | None, split_file: str | Path | None, split_dirs: bool, split_by: str | None
) -> None:
    if not 1 <= size <= MAX_SIDE:
        raise WrongOptions(f"--size {size}: expected the pixels of a side, 1 to {MAX_SIDE}")
    if sum((split is not None, split_file is not None, split_dirs)) > 1:
        raise WrongOptions("give one of --split, --split-file and --split-dirs")
    if split_by not in (None, PARENT) or (split_by and split_dirs):
        raise WrongOptions(
            f"--split-by {split_by}: pictures have {PARENT!r} (FOLDER/parent/class/*) only, and not with --split-dirs"
        )


def _whole(found: Found, summary: Summary) -> tuple[dict[str, list[Path]], list[str]]:
    """The pictures that can be decoded, and the others, each with why; all are counted."""
    whole: dict[str, list[Path]] = {}
    broken: list[str] = []
    for label, files in found.files.items():
        summary.read += len(files)
        why = {file: why_broken(file) for file in files}
        broken += [f"{file}: {reason}" for file, reason in why.items() if reason]
        whole[label] = [file for file in files if not why[file]]
    summary.drop("broken", len(broken))
    return whole, broken


def _nothing_left(folder: Path, broken: int, split_dirs: bool, split_by: str | None) -> ImportFailed:
    level = "split/" if split_dirs else f"{PARENT}/" if split_by else ""
    return ImportFailed(
        f"{folder}: no class of {MIN_ROWS} or more images is left ({broken} broken): expected "
        f"FOLDER/{level}class/* of {', '.join(SUFFIXES)}"
        f"{'' if split_dirs or split_by else ' (FOLDER/split/class/* needs --split-dirs, or --split-by parent)'}"
    )


def _rows(stored: Mapping[str, Groups], whole: Mapping[str, Sequence[Path]], column: Column) -> Rows:
    """Decodes the pictures of one row group after the other."""
    order = [(label, part, file) for part, groups in stored.items() for label in groups.names for file in whole[label]]

    def fetch(start: int, stop: int) -> Any:
        mine = order[start:stop]
        images = np.stack([pixels(file, column.shape) for _, _, file in mine])
        table = pa.table(
            {
                "group": [label for label, _, _ in mine],
                "split": [part for _, part, _ in mine],
                "image": pa.array([image.tobytes() for image in images], pa.binary(column.nbytes)),
            }
        )
        return collect_table([table], [column], "classes")

    return fetch
