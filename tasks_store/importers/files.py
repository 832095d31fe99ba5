"""The tables people have, as streams of record batches: Parquet, CSV, JSON lines and Arrow IPC, by suffix."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from tasks_store.errors import ImportFailed
from tasks_store.importers.hugging_face import class_names, saved_files

FORMATS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".arrow": "Arrow IPC",
    ".ipc": "Arrow IPC",
    ".feather": "Arrow IPC",
}
BATCH_ROWS = 1 << 16
_BLOCK_BYTES = 4 << 20
_READING = (pa.ArrowException, OSError, ValueError)


class TableFiles:
    """Several files of one schema as one table that is never whole in memory.

    Args:
        files: paths; the suffix tells the format. A folder of the ``save_to_disk`` of Hugging Face's datasets is
            its Arrow files.
        text: columns of a text file that are read as text whatever they look like (names of groups: 007 stays 007).

    Raises:
        ImportFailed: an unknown suffix, an unreadable file, or files of different columns.
    """

    def __init__(self, files: Sequence[str | Path], *, text: Collection[str] = ()) -> None:
        if not files:
            raise ImportFailed("no file is given: name one or several with --from FILE")
        given = [Path(file).expanduser() for file in files]
        self.files = [file for place in given for file in (saved_files(place) if place.is_dir() else [place])]
        self._text = frozenset(text)
        schemas = [self._schema(file) for file in self.files]
        self.schema = schemas[0]
        self._names = {name: names for name, names in class_names(self.schema).items() if name in self._text}
        for name in self._names:
            self.schema = self.schema.set(self.schema.get_field_index(name), pa.field(name, pa.string()))
        for file, schema in zip(self.files, schemas, strict=True):
            if sorted(schema.names) != sorted(self.schema.names):
                differ = sorted(set(schema.names) ^ set(self.schema.names))
                raise ImportFailed(
                    f"{file} and {self.files[0]} have different columns ({', '.join(differ)} in one of them only): "
                    "import files of one schema"
                )
        if repeated := sorted({name for name in self.schema.names if self.schema.names.count(name) > 1}):
            raise ImportFailed(f"{self.files[0]} has several columns called {', '.join(repeated)}: rename them")

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """The columns of all rows as pyarrow Tables of some ten thousand rows, in the order of the files.

        Raises:
            ImportFailed: a file is damaged, or a value is not of its column's type.
        """
        wanted = pa.schema([self.schema.field(name) for name in columns])
        for file in self.files:
            try:
                for batch in self._read(file, columns):
                    yield _plain(self._named(pa.table(batch).select(columns)), wanted, empty_is_missing=_is_csv(file))
            except _READING as error:
                raise ImportFailed(f"cannot read {file} as {FORMATS[file.suffix]}: {_first(error)}") from error

    def _named(self, table: Any) -> Any:
        """Class ids as the names that the schema's metadata gives them; -1, which is no class, as a gap."""
        for name in set(self._names) & set(table.column_names):
            ids = table.column(name)
            ids = pc.if_else(pc.less(ids, 0), pa.scalar(None, ids.type), ids)
            names = pa.array(self._names[name], pa.string()).take(ids.combine_chunks())
            table = table.set_column(table.column_names.index(name), name, names)
        return table

    def _schema(self, file: Path) -> Any:
        if file.suffix not in FORMATS:
            raise ImportFailed(
                f"{file}: the suffix {file.suffix!r} is none of {', '.join(FORMATS)}, which tell how --from is read"
            )
        try:
            if FORMATS[file.suffix] == "Parquet":
                found = pq.read_schema(file)
            elif FORMATS[file.suffix] == "Arrow IPC":
                with _open_ipc(file) as reader:
                    found = reader.schema
            else:
                with self._open_text(file, {}) as reader:
                    found = self._settled(reader.schema)
        except _READING as error:
            raise ImportFailed(f"cannot read {file} as {FORMATS[file.suffix]}: {_first(error)}") from error
        return pa.schema([pa.field(field.name, _value_type(field.type)) for field in found], metadata=found.metadata)

    def _settled(self, schema: Any) -> Any:
        """The opening of a text file does not show all: a number may get a fraction, a gap a value."""
        kinds = []
        for field in schema:
            kind = pa.float64() if pa.types.is_integer(field.type) or pa.types.is_null(field.type) else field.type
            kinds.append(pa.field(field.name, pa.string() if field.name in self._text else kind))
        return pa.schema(kinds)

    def _read(self, file: Path, columns: Sequence[str]) -> Iterator[Any]:
        if FORMATS[file.suffix] == "Parquet":
            with pq.ParquetFile(file, page_checksum_verification=True, buffer_size=1 << 20) as parquet:
                yield from parquet.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False)
        elif FORMATS[file.suffix] == "Arrow IPC":
            with _open_ipc(file) as reader:
                stream = isinstance(reader, pa.RecordBatchStreamReader)
                for batch in reader if stream else map(reader.get_batch, range(reader.num_record_batches)):
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        yield batch.slice(start, BATCH_ROWS)
        else:
            kinds = {field.name: field.type for field in self.schema}
            with self._open_text(file, kinds) as reader:
                yield from reader

    def _open_text(self, file: Path, kinds: dict[str, Any]) -> Any:
        if _is_csv(file):
            return pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=pacsv.ParseOptions(delimiter="\t" if file.suffix == ".tsv" else ","),
                convert_options=pacsv.ConvertOptions(column_types=kinds),
            )
        numbers = pa.schema([(name, kind) for name, kind in kinds.items() if name not in self._text])
        return pajson.open_json(
            file,
            read_options=pajson.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pajson.ParseOptions(explicit_schema=numbers if kinds else None),
        )


def _is_csv(file: Path) -> bool:
    return FORMATS[file.suffix] == "CSV"


def _open_ipc(file: Path) -> Any:
    """A reader of the file form or of the stream form, which share their suffixes."""
    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(table: Any, schema: Any, *, empty_is_missing: bool) -> Any:
    """Columns in the types of the schema; in CSV an empty text is a gap, since it has no other way to say so."""
    arrays = []
    for field in schema:
        column = table.column(field.name).cast(field.type)
        if empty_is_missing and pa.types.is_string(field.type):
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, field.type), column)
        arrays.append(column)
    return pa.table(arrays, schema=schema)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
