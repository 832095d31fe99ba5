"""One journal line: what an event is, how it is written and how it is read back.

A line is a JSON object ``{"kind", "time", "step"?, "data"}`` and a newline: ``time`` in milliseconds since
1970, ``step`` where the event belongs to an outer step. JSON has no NaN and no infinity, so those are the
strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; a metric is read back as the float it was.

The kinds and their ``data``:

```
config    the resolved configuration, nested          params    {name: value}, flat
metrics   {name: number}                              tags      {name: value}
event     {"name": ..., further fields}               dataset   {"name", "digest", "source", "context"}
artifact  {"path": relative to the run folder,        status    {"status": RUNNING|FINISHED|FAILED|KILLED}
           "folder": where it goes}
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from metadist.tracking.errors import JournalCorrupt, JournalMissing, JournalOffsetInvalid

JOURNAL_NAME = "journal.jsonl"

Kind = Literal["config", "metrics", "event", "params", "tags", "dataset", "artifact", "status"]
KINDS: frozenset[str] = frozenset(get_args(Kind))

_SPELLING = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the journal.

    Attributes:
        kind: What happened; see the module's table.
        time: When, in milliseconds since 1970.
        step: The outer step, or None.
        data: The payload; for ``metrics`` a mapping from name to float.
        end: The byte offset just behind the line: where the next one begins.
    """

    kind: str
    time: int
    step: int | None
    data: Mapping[str, Any]
    end: int


def encode(kind: str, time: int, step: int | None, data: Mapping[str, Any]) -> bytes:
    """The line of an event, with its newline.

    Raises:
        ValueError: The kind is unknown.
        TypeError: A value has no JSON form (a tensor, a set).
    """
    if kind not in KINDS:
        raise ValueError(f"an event of kind {kind!r} is unknown; the kinds are {', '.join(sorted(KINDS))}")
    head: dict[str, Any] = {"kind": kind, "time": time}
    if step is not None:
        head["step"] = step
    try:
        text = json.dumps({**head, "data": data}, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError):
        text = json.dumps({**head, "data": plain(data)}, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def plain(value: Any) -> Any:
    """The value in JSON types: non-finite floats spelt out, scalars and paths converted, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return spell(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a numpy or torch scalar
        return plain(value.item())
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form; convert it before journalling it")


def spell(number: float) -> float | str:
    """A float as JSON can hold it.

    >>> spell(0.5), spell(float("nan")), spell(float("-inf"))
    (0.5, 'NaN', '-Infinity')
    """
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def decode(line: bytes, end: int) -> Event:
    """The event of a whole line.

    Raises:
        ValueError: The line is not an event, with the reason.
    """
    try:
        record = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("kind") not in KINDS:
        raise ValueError("not an event: no known kind")
    kind, time, step, data = record["kind"], record.get("time"), record.get("step"), record.get("data")
    if not isinstance(time, int) or not isinstance(data, dict) or not (step is None or isinstance(step, int)):
        raise ValueError("not an event: time, step or data has the wrong type")
    if kind == "metrics":
        data = {name: _SPELLING[value] if isinstance(value, str) else float(value) for name, value in data.items()}
    return Event(kind=kind, time=time, step=step, data=data, end=end)


def read_events(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[Event]:
    """The events of a journal from one byte offset on, up to another one or to its end, in order.

    A last line without its newline is still being written (or was torn): reading stops before it.

    Args:
        path: The journal, or the run folder that holds it.
        start, stop: Byte offsets at which a line begins: 0, an `Event.end` or a `Journal.position`.

    Raises:
        JournalMissing: There is no such file.
        JournalOffsetInvalid: No line begins at ``start``.
        JournalCorrupt: A whole line is not an event.
    """
    file_path = Path(path)
    if file_path.is_dir():
        file_path = file_path / JOURNAL_NAME
    if not file_path.is_file():
        raise JournalMissing(str(file_path.parent))
    with file_path.open("rb") as file:
        check_offset(file_path, start)
        file.seek(start)
        end = start
        for line in file:
            if not line.endswith(b"\n") or end == stop:
                return
            begin, end = end, end + len(line)
            try:
                yield decode(line, end)
            except (ValueError, KeyError) as error:
                raise JournalCorrupt(str(file_path), begin, str(error)) from None


def undamaged(events: Iterator[Event]) -> Iterator[Event]:
    """Those before the first damaged line: of a part that is about to be dropped no more is asked."""
    with suppress(JournalCorrupt):
        yield from events


def check_offset(path: Path, offset: int) -> None:
    """Raise JournalOffsetInvalid unless a line begins at this offset (the end of the last line counts)."""
    size = path.stat().st_size
    if not 0 <= offset <= size:
        raise JournalOffsetInvalid(str(path), offset, size)
    if offset > 0:
        with path.open("rb") as file:
            file.seek(offset - 1)
            if file.read(1) != b"\n":
                raise JournalOffsetInvalid(str(path), offset, size)
