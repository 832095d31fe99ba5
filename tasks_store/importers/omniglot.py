"""Omniglot: 1,623 handwritten characters of 50 alphabets, drawn by 20 people each.

Brenden M. Lake, Ruslan Salakhutdinov, Joshua B. Tenenbaum: Human-level concept learning through
probabilistic program induction, Science 350 (2015). MIT licence.

A character's id 1..1623 is the number in the official file names (``0709_01.png`` is character 709,
drawer 1): 1..964 background, 965..1623 evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks_store.errors import ImportFailed, WrongOptions
from tasks_store.importers.omniglot_images import Drawing, read_drawings
from tasks_store.manifest import Manifest
from tasks_store.schema import Column
from tasks_store.writer import write_store

Split = Literal["vinyals", "background-evaluation"]
IMAGE = Column(name="image", dtype="uint8", shape=(28, 28), unit="ink 0..255")
LICENCE = "MIT, (c) 2015 Brenden Lake"
CHARACTERS, DRAWERS, BACKGROUND = 1623, 20, 964

VINYALS: dict[str, tuple[tuple[int, int], ...]] = {
    "train": ((1, 26), (68, 131), (178, 250), (273, 465), (488, 728), (770, 1200)),
    "validation": ((27, 67), (132, 177), (251, 272), (466, 487), (729, 769)),
    "test": ((1201, 1623),),
}
"""Character ids, first to last, of the split of Oriol Vinyals et al., Matching Networks for One Shot
Learning, NeurIPS 2016, as published with Jake Snell et al., Prototypical Networks, NeurIPS 2017
(jakesnell/prototypical-networks, MIT): 1,028 / 172 / 423 characters."""

_VALIDATION_SEED, _VALIDATION_SIZE = 20151211, 144


def import_omniglot(
    source: str | Path,
    out: str | Path,
    split: Split = "vinyals",
    *,
    allow_partial: bool = False,
) -> Manifest:
    """Write a store from Omniglot as published, or from a labelled Parquet table of it.

    Args:
        source: a folder with ``images_background`` and ``images_evaluation`` (folders or zips); or a
            Parquet file, or a folder with one, with the columns alphabet, character, char_id and image
            (784 bytes, 28 x 28, 255 = ink).
        out: an absent or empty folder, or a URI.
        split: "vinyals", or "background-evaluation": the evaluation alphabets are the test split, 144
            background characters (a fixed seeded choice) the validation split.
        allow_partial: take a part of Omniglot (else all 1,623 x 20 drawings must be there).

    Returns:
        The manifest. Groups are ``Alphabet/character01``, the domain is the alphabet. Turned copies are
        not stored: train with ``EpisodeSpec(variants=4)``.

    Raises:
        WrongOptions: no such split.
        ImportFailed: nothing usable there, or drawings are missing.
    """
    if split not in get_args(Split):
        raise WrongOptions(f"split {split!r} is none of {', '.join(get_args(Split))}")
    place = Path(source).expanduser()
    table_file = _parquet_of(place)
    batch = _from_table(table_file) if table_file else _from_drawings(read_drawings(place))
    if not allow_partial:
        _refuse_partial(batch.column("char_id").to_numpy(), str(source))
    owners = split_of_characters(split)
    splits = [owners[number] for number in batch.column("char_id").to_pylist()]
    rows = batch.drop_columns(["char_id"]).append_column("split", pa.array(splits, type=pa.string()))
    return write_store(
        [rows],
        out,
        name="omniglot",
        kind="classes",
        columns=[IMAGE],
        source=f"brendenlake/omniglot, 28 x 28 by area averaging, split {split}",
        licence=LICENCE,
    )


def split_of_characters(split: Split) -> dict[int, str]:
    """The split of each character id 1..1623.

    Example:
        >>> owners = split_of_characters("vinyals")
        >>> owners[26], owners[27], owners[1201], len(owners)
        ('train', 'validation', 'test', 1623)
    """
    if split == "vinyals":
        return {
            number: name
            for name, spans in VINYALS.items()
            for first, last in spans
            for number in range(first, last + 1)
        }
    uniforms = np.random.default_rng(_VALIDATION_SEED).random(BACKGROUND)
    chosen = {int(number) + 1 for number in np.argsort(uniforms, kind="stable")[:_VALIDATION_SIZE]}
    owners = {number: "validation" if number in chosen else "train" for number in range(1, BACKGROUND + 1)}
    return owners | dict.fromkeys(range(BACKGROUND + 1, CHARACTERS + 1), "test")


def _parquet_of(place: Path) -> Path | None:
    if not place.exists():
        raise ImportFailed(f"{place} does not exist: give the folder, zip folder or Parquet file of Omniglot")
    if place.is_file():
        return place
    found = sorted(place.glob("*.parquet"))
    if len(found) > 1:
        raise ImportFailed(f"{place} holds {len(found)} Parquet files: name the one to import")
    return found[0] if found else None


def _from_table(file: Path) -> Any:
    table = read_table(file)
    require_columns(table, ["alphabet", "character", "char_id", "image"], file)
    alphabets, numbers = as_text(table.column("alphabet")), table.column("character").to_pylist()
    names = [
        f"{alphabet}/character{number:02d}" for alphabet, number in zip(alphabets.to_pylist(), numbers, strict=True)
    ]
    identities = table.column("char_id").cast(pa.int64())
    _refuse_unknown(identities.to_pylist(), str(file))
    return pa.table({"group": names, "domain": alphabets, "char_id": identities, "image": table.column("image")})


def _from_drawings(drawings: Iterable[Drawing]) -> Any:
    kept = sorted(drawings, key=lambda drawing: (drawing.char_id, drawing.drawer))
    _refuse_unknown([drawing.char_id for drawing in kept], "the images")
    return pa.table(
        {
            "group": [f"{drawing.alphabet}/{drawing.character}" for drawing in kept],
            "domain": [drawing.alphabet for drawing in kept],
            "char_id": pa.array([drawing.char_id for drawing in kept], type=pa.int64()),
            "image": pa.array([drawing.image.tobytes() for drawing in kept], type=pa.binary(IMAGE.nbytes)),
        }
    )


def _refuse_unknown(numbers: Iterable[int], shown: str) -> None:
    strange = sorted({number for number in numbers if not 1 <= number <= CHARACTERS})
    if strange:
        raise ImportFailed(f"{shown}: character id {strange[0]} is not in 1..{CHARACTERS}: is this Omniglot?")


def _refuse_partial(numbers: Any, shown: str) -> None:
    counts = np.bincount(numbers, minlength=CHARACTERS + 1)[1:]
    wrong = np.flatnonzero(counts != DRAWERS)
    if len(wrong):
        raise ImportFailed(
            f"{shown}: character {wrong[0] + 1} has {counts[wrong[0]]} drawings, expected {DRAWERS} "
            f"({len(wrong)} of {CHARACTERS} characters differ): both images_background and images_evaluation "
            "are needed whole"
        )


def read_table(source: str | Path) -> Any:
    """A Parquet file as a pyarrow table, page checksums verified where it has them.

    Raises:
        ImportFailed: no such file, or not Parquet.
    """
    try:
        return pq.read_table(source, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ImportFailed(f"cannot read {source} as Parquet: {str(error).splitlines()[0]}") from error


def require_columns(table: Any, names: Sequence[str], source: str | Path) -> None:
    """Refuse a table without these columns.

    Raises:
        ImportFailed: names those missing and those there are.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ImportFailed(f"{source} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}")


def as_text(column: Any) -> Any:
    """A column of any simple type as strings.

    Raises:
        ImportFailed: it has missing values.
    """
    if column.null_count:
        raise ImportFailed(f"a label, split or domain column has {column.null_count} missing values")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())
