"""The tables people have, several files of one schema as a stream of pyarrow Tables."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks_store.errors import ImportFailed
from tasks_store.importers.formats import READING, form_of, is_csv, opening_schema, read_batches
from tasks_store.importers.hugging_face import class_names, saved_files
from tasks_store.importers.unreadable import cannot_read, check_files

Names = Mapping[str, Sequence[str]]
"""Names of the classes of each column whose ids have any."""


class TableFiles:
    """Several files of one schema as one table that is never whole in memory.

    Args:
        files: paths; the suffix tells the format. A folder of the ``save_to_disk`` of Hugging Face's datasets is
            its Arrow files.
        text: columns of a text file that are read as text whatever they look like (names of groups: 007 stays 007).

    Raises:
        WrongOptions: a file is given twice.
        ImportFailed: an unknown suffix, an unreadable file, or files of different columns.
    """

    def __init__(self, files: Sequence[str | Path], *, text: Collection[str] = ()) -> None:
        if not files:
            raise ImportFailed("no file is given: name one or several with --from FILE")
        given = [Path(file).expanduser() for file in files]
        self.files = [file for place in given for file in (saved_files(place) if place.is_dir() else [place])]
        check_files(self.files)
        self._text = frozenset(text)
        self._found = {file: _opening(file) for file in self.files}
        self._names = {file: self._class_names(schema) for file, schema in self._found.items()}
        self.schema = self._settled(self.files[0])
        for file, schema in self._found.items():
            if sorted(schema.names) != sorted(self.schema.names):
                differ = sorted(set(schema.names) ^ set(self.schema.names))
                raise ImportFailed(
                    f"{file} and {self.files[0]} have different columns ({', '.join(differ)} in one of them only): "
                    "import files of one schema"
                )
        if repeated := sorted({name for name in self.schema.names if self.schema.names.count(name) > 1}):
            raise ImportFailed(f"{self.files[0]} has several columns called {', '.join(repeated)}: rename them")

    def kinds(self, column: str, *, typed: bool) -> dict[Path, str]:
        """Whether each file names groups by ``text`` or by ``numbers``; other types are left out.

        Args:
            column: of all files.
            typed: leave out files without types (CSV), whose 007 may be a name among others.
        """
        found = {}
        for file, schema in self._found.items():
            kind = schema.field(column).type
            if column in self._names[file] or pa.types.is_string(kind) or pa.types.is_large_string(kind):
                found[file] = "text"
            elif pa.types.is_integer(kind):
                found[file] = "numbers"
        return {file: kind for file, kind in found.items() if not (typed and is_csv(file))}

    def batches(self, columns: Sequence[str]) -> Generator[Any]:
        """The columns of all rows as pyarrow Tables of some ten thousand rows, in the order of the files.

        Raises:
            ImportFailed: a file is damaged, or a value is not of its column's type.
        """
        wanted = pa.schema([self.schema.field(name) for name in columns])
        kinds = {field.name: field.type for field in self.schema}
        for file in self.files:
            try:
                with closing(read_batches(file, columns, kinds, self._text)) as batches:
                    for batch in batches:
                        table = _named(pa.table(batch).select(columns), self._names[file])
                        yield _plain(table, wanted, empty_is_missing=is_csv(file))
            except READING as error:
                raise cannot_read(file, error) from error

    def _class_names(self, schema: Any) -> Names:
        return {name: names for name, names in class_names(schema).items() if name in self._text}

    def _settled(self, file: Path) -> Any:
        """The types that all files are read in: class ids are names where any file has names for them.

        The opening of a text file does not show all: a number may get a fraction, a gap a value.
        """
        named = {name for names in self._names.values() for name in names}
        untyped = form_of(file) in ("CSV", "JSON lines")
        fields = []
        for field in self._found[file]:
            kind = field.type
            if field.name in named or (untyped and field.name in self._text):
                kind = pa.string()
            elif untyped and (pa.types.is_integer(kind) or pa.types.is_null(kind)):
                kind = pa.float64()
            fields.append(pa.field(field.name, kind))
        return pa.schema(fields)


def _opening(file: Path) -> Any:
    try:
        return opening_schema(file)
    except READING as error:
        raise cannot_read(file, error) from error


def _named(table: Any, names: Names) -> Any:
    """Class ids as the names that the metadata of their file gives them; -1, which is no class, as a gap."""
    for name in set(names) & set(table.column_names):
        ids = table.column(name)
        ids = pc.if_else(pc.less(ids, 0), pa.scalar(None, ids.type), ids)
        labels = pa.array(names[name], pa.string()).take(ids.combine_chunks())
        table = table.set_column(table.column_names.index(name), name, labels)
    return table


def _plain(table: Any, schema: Any, *, empty_is_missing: bool) -> Any:
    """Columns in the types of the schema; in CSV an empty text is a gap, since it has no other way to say so."""
    arrays = []
    for field in schema:
        column = table.column(field.name).cast(field.type)
        if empty_is_missing and pa.types.is_string(field.type):
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, field.type), column)
        arrays.append(column)
    return pa.table(arrays, schema=schema)
