"""What the user asks of an import, refused where it cannot be carried out; messages name the flag that helps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from tasks_store.errors import ImportFailed, WrongOptions
from tasks_store.importers.files import TableFiles
from tasks_store.importers.splits import parse_shares
from tasks_store.importers.unreadable import separator_hint
from tasks_store.schema import Kind

Missing = Literal["error", "drop", "mean+flag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest:
    """One import of a table; the fields are the flags of ``metadist tasks import table``."""

    files: tuple[str | Path, ...]
    """Parquet, CSV, JSON lines or Arrow IPC, by suffix; of one schema."""
    value: tuple[str, ...]
    """Columns a task sees: names or globs. Numbers are packed into one float32 vector ``x``."""
    label: str | None = None
    """Column of the class: makes a store of kind classes."""
    target: str | None = None
    """Numeric column to predict: makes a store of kind groups, with the target as ``y``."""
    group: tuple[str, ...] = ()
    """With ``target``: the columns that name a group, joined by '/'."""
    order_by: tuple[str, ...] = ()
    """Columns that order the rows of a group; without, they keep the order of the files."""
    split: str | None = None
    """Shares of train, validation and test, e.g. "0.7,0.1,0.2": cuts groups, or the values of ``split_by``."""
    split_by: str | None = None
    """Column whose values are split whole; it becomes the domain of the group."""
    split_column: str | None = None
    """Column that holds each row's split; a group must lie in one."""
    split_file: str | Path | None = None
    """JSON {split: [label, ...]}; with ``split_by``, lists of its values."""
    seed: int = 0
    """Of the hash that cuts by shares."""
    missing: Missing = "error"
    drop_label: tuple[str, ...] = ()
    """Groups left out."""
    where: str | None = None
    """Rows kept; see :func:`tasks_store.importers.where.parse_where`."""
    shape: tuple[int, ...] = ()
    """Of one row's value, when the column is binary (uint8) or lists without a fixed size."""
    name: str = ""
    """Of the data set; default the first file's stem."""
    licence: str = ""

    @property
    def kind(self) -> Kind:
        """classes with a label, groups with a target."""
        return "classes" if self.label else "groups"

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The columns that name the group of a row."""
        return (self.label,) if self.label else self.group

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns with a role other than value or target, each once; none may have a gap."""
        given = (*self.group_columns, *self.order_by, self.split_by, self.split_column)
        return tuple(dict.fromkeys(name for name in given if name))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns whose values are names."""
        return tuple(name for name in (*self.group_columns, self.split_by, self.split_column) if name)


def check_flags(request: TableRequest) -> None:
    """Refuse flags that do not go together, before any file is opened.

    Raises:
        WrongOptions: names the flag that is missing or too many.
    """
    if bool(request.label) == bool(request.target):
        raise WrongOptions(
            "give either --label COL (tasks are drawn over classes) or --target COL with --group COL[,COL...] "
            "(a group is a task, a number is predicted)"
        )
    if request.label and request.group:
        raise WrongOptions("--group goes with --target; with --label the label is the group")
    if request.target and not request.group:
        raise WrongOptions(f"--target {request.target} needs --group COL[,COL...]: which rows make a task")
    if request.missing not in get_args(Missing):
        raise WrongOptions(f"--missing {request.missing!r} is none of {', '.join(get_args(Missing))}")
    if request.split_column and (request.split or request.split_by or request.split_file):
        raise WrongOptions("--split-column holds the split already; leave out --split, --split-by and --split-file")
    if request.split and request.split_file:
        raise WrongOptions("--split-file says the split already; leave out --split")
    if not (request.split or request.split_by or request.split_column or request.split_file):
        raise WrongOptions(
            "say how groups are split: --split 0.7,0.1,0.2 (by a hash of their names), --split-by COL (all groups of a "
            "value of COL together), --split-column COL or --split-file FILE.json"
        )
    if request.split:
        parse_shares(request.split)


def check_columns(request: TableRequest, files: TableFiles) -> None:
    """Refuse a table without the columns that have a role, or with columns that cannot have it.

    Raises:
        ImportFailed: names the flag, the column, and what there is.
    """
    schema = files.schema
    roles = {
        "--label": (request.label,),
        "--target": (request.target,),
        "--group": request.group,
        "--order-by": request.order_by,
        "--split-by": (request.split_by,),
        "--split-column": (request.split_column,),
    }
    for flag, column in ((flag, column) for flag, columns in roles.items() for column in columns if column):
        if column not in schema.names:
            raise ImportFailed(
                f"{flag}: {request.files[0]} has no column {column!r}; it has {', '.join(schema.names)}"
                f"{separator_hint(schema.names, column)}"
            )
        kind = schema.field(column).type
        if pa.types.is_nested(getattr(kind, "storage_type", kind)):
            raise ImportFailed(
                f"{flag}: column {column!r} is {kind}, which is no single value: name a column of text or numbers, or "
                "make one of it"
            )
        if column in request.text_columns:
            _refuse_ids_among_names(flag, column, files.kinds(column, typed=column != request.label))


def _refuse_ids_among_names(flag: str, column: str, kinds: dict[Path, str]) -> None:
    """A class would be two, once by its name and once by its number."""
    first = {kind: file for file, kind in reversed(kinds.items())}
    if len(first) > 1:
        raise ImportFailed(
            f"{flag}: column {column!r} holds text in {first['text']} and numbers in {first['numbers']}, which do not "
            "name the same groups: write names, or numbers, in all files"
        )
