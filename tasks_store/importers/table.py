"""A labelled Parquet table (one row an example, a label column) as a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks_store.errors import ImportFailed
from tasks_store.manifest import Manifest
from tasks_store.schema import Column, Kind
from tasks_store.writer import write_store


def import_table(
    source: str | Path,
    out: str | Path,
    *,
    label: str,
    columns: Sequence[Column] | Sequence[str],
    name: str = "",
    kind: Kind = "classes",
    domain: str | None = None,
    split: str | None = None,
    split_file: str | Path | None = None,
    licence: str = "",
) -> Manifest:
    """Write a store from a labelled Parquet table.

    Args:
        source: a Parquet file. Row order is kept inside a group.
        out: an absent or empty folder, or a URI.
        label: the column that names the group; any type, taken as text.
        columns: value columns to keep: names (scalars and text, their types are taken from the
            table) or Columns (needed for arrays in a binary or list column: they give dtype and shape).
        name: of the data set; default the file's stem.
        kind: "classes" or "groups".
        domain: column with the group's domain.
        split: column with the split of each row; a class must lie in one.
        split_file: JSON ``{split: [label, ...]}`` instead; every label of the table in exactly one.
        licence: of the data.

    Raises:
        ImportFailed: not readable, a column is missing, or a label without a split.
        SchemaMismatch: values that do not fit, or a class in two splits.
    """
    table = read_table(source)
    wanted = [column if isinstance(column, str) else column.name for column in columns]
    require_columns(table, [label, *wanted, *([domain] if domain else []), *([split] if split else [])], source)
    if (split is None) == (split_file is None):
        raise ImportFailed("say how classes are split: give either split (a column) or split_file (JSON)")
    groups = as_text(table.column(label))
    if split_file is not None:
        splits = splits_of_labels(groups, load_split_file(split_file), str(split_file))
    else:
        splits = as_text(table.column(str(split)))
    typed = [column if isinstance(column, Column) else infer_column(table, column) for column in columns]
    rows = pa.table(
        {
            "group": groups,
            "split": splits,
            "domain": as_text(table.column(domain)) if domain else pa.array([""] * table.num_rows, pa.string()),
            **{column: table.column(column) for column in wanted},
        }
    )
    return write_store(
        [rows],
        out,
        name=name or Path(source).stem,
        kind=kind,
        columns=typed,
        source=Path(source).name,
        licence=licence,
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


def infer_column(table: Any, name: str) -> Column:
    """The Column of a scalar or text column of a table.

    Raises:
        ImportFailed: an array column, whose dtype and shape must be given.
    """
    kind = table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column(name=name, dtype="string")
    if kind == pa.uint8() or kind == pa.float32():
        return Column(name=name, dtype="uint8" if kind == pa.uint8() else "float32")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return Column(name=name, dtype="int64" if pa.types.is_integer(kind) else "float64")
    raise ImportFailed(f"column {name!r} is {kind}: give a Column with its dtype and shape")


def load_split_file(path: str | Path) -> dict[str, list[str]]:
    """``{split: [label, ...]}`` from JSON; entries that are not lists (notes) are passed over.

    Raises:
        ImportFailed: not such a file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFailed(f"cannot read the split file {path}: {error}") from error
    splits = {
        split: [str(label) for label in labels]
        for split, labels in (content.items() if isinstance(content, dict) else ())
        if isinstance(labels, list)
    }
    if not splits:
        raise ImportFailed(f"{path}: expected a JSON object {{split: [label, ...]}}")
    return splits


def splits_of_labels(groups: Any, splits: Mapping[str, Sequence[str]], shown: str) -> Any:
    """The split of each row from the label lists.

    Raises:
        ImportFailed: a label in two lists or in none.
    """
    owner: dict[str, str] = {}
    for split, labels in splits.items():
        for label in labels:
            if owner.setdefault(label, split) != split:
                raise ImportFailed(f"{shown}: label {label!r} is in both {owner[label]!r} and {split!r}")
    found = pc.unique(groups).to_pylist()
    unknown = [label for label in found if label not in owner]
    if unknown:
        raise ImportFailed(f"{shown}: {len(unknown)} labels of the table are in no split, e.g. {unknown[0]!r}")
    return pa.array([owner[label] for label in groups.to_pylist()], type=pa.string())
