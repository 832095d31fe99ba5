"""One file of a table as a schema and a stream of record batches: Parquet, CSV, JSON lines and Arrow IPC, by suffix."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

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
BLOCK_BYTES = 4 << 20
"""What a text file is read by; a single row must fit."""
READING = (pa.ArrowException, OSError, ValueError)
"""What a reader raises for a file that is damaged, absent, or of another form than its suffix says."""


def form_of(file: Path) -> str:
    """The format that the suffix tells."""
    return FORMATS[file.suffix]


def is_csv(file: Path) -> bool:
    """Whether a file has no types of its own, so that an empty text is its only gap."""
    return form_of(file) == "CSV"


def opening_schema(file: Path) -> Any:
    """The columns of a file, of a text file by its first block; a dictionary counts as its values.

    Raises:
        READING: it cannot be read so.
    """
    if form_of(file) == "Parquet":
        found = pq.read_schema(file)
    elif form_of(file) == "Arrow IPC":
        with _opened_ipc(file) as reader:
            found = reader.schema
    else:
        with file.open("rb") as opened:
            if opened.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise UnicodeError("it is UTF-16")
        with _opened_text(file, {}, ()) as reader:
            found = reader.schema
        if is_csv(file) and any(pa.types.is_binary(field.type) for field in found):
            raise UnicodeError("other bytes in a column of text")
    return pa.schema([pa.field(field.name, _value_type(field.type)) for field in found], metadata=found.metadata)


def read_batches(file: Path, columns: Sequence[str], kinds: Mapping[str, Any], text: Collection[str]) -> Generator[Any]:
    """The rows of a file as record batches, with at least these columns.

    Args:
        file: of a known suffix.
        columns: wanted.
        kinds: the types of all columns, by which a text file is read.
        text: columns that a text file gives as they stand there.
    """
    if form_of(file) == "Parquet":
        with pq.ParquetFile(file, page_checksum_verification=True, buffer_size=1 << 20) as parquet:
            yield from parquet.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False)
    elif form_of(file) == "Arrow IPC":
        with _opened_ipc(file) as reader:
            stream = isinstance(reader, pa.RecordBatchStreamReader)
            for batch in reader if stream else map(reader.get_batch, range(reader.num_record_batches)):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)
    else:
        with _opened_text(file, kinds, text) as reader:
            for batch in reader:
                if not is_csv(file):  # the JSON reader takes any bytes for UTF-8
                    batch.select(list(columns)).validate(full=True)
                yield batch


def _opened_text(file: Path, kinds: Mapping[str, Any], text: Collection[str]) -> Any:
    if is_csv(file):
        return pacsv.open_csv(
            file,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter="\t" if file.suffix == ".tsv" else ",", newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(column_types=dict(kinds)),
        )
    numbers = pa.schema([(name, kind) for name, kind in kinds.items() if name not in text])
    return pajson.open_json(
        file,
        read_options=pajson.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pajson.ParseOptions(explicit_schema=numbers if kinds else None),
    )


@contextmanager
def _opened_ipc(file: Path) -> Iterator[Any]:
    """A reader of the file form or of the stream form, which share their suffixes."""
    with pa.memory_map(str(file)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        with reader:
            yield reader


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
