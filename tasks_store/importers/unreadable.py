"""Why a file of --from cannot be taken, in one line that says what to do about it."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tasks_store.errors import ImportFailed, WrongOptions
from tasks_store.importers.formats import BLOCK_BYTES, FORMATS, form_of

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_MARKS = {";": "';'", "\t": "a tab", "|": "'|'", ",": "','"}
_SEPARATORS = "--from reads commas in .csv and tabs in .tsv: save it with one of these"


def check_files(files: Sequence[Path]) -> None:
    """Refuse, before any is opened, what cannot be a file of rows.

    Raises:
        WrongOptions: a file is given twice.
        ImportFailed: a pattern, a packed file, or another suffix.
    """
    seen: dict[Path, Path] = {}
    for file in files:
        if not file.exists() and glob.has_magic(str(file)):
            found = sorted(glob.glob(str(file)))
            matched = f"matches {len(found)} files, the first {found[0]}" if found else "matches no file"
            raise ImportFailed(
                f"--from {file}: a pattern is not expanded (it {matched}): name each file with a --from of its own, "
                "--from a.csv --from b.csv"
            )
        if file.suffix in _PACKED:
            raise ImportFailed(f"--from {file} is compressed ({file.suffix}): unpack it, and name the file in it")
        if file.suffix not in FORMATS:
            raise ImportFailed(
                f"{file}: the suffix {file.suffix!r} is none of {', '.join(FORMATS)}, which tell how --from is read"
            )
        first = seen.setdefault(file.resolve(), file)
        if first is not file:
            raise WrongOptions(
                f"--from {file} is given twice (first as {first}): its rows would count twice; leave one out"
            )


def cannot_read(file: Path, error: BaseException) -> ImportFailed:
    """The error of a reader as ours."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, UnicodeError) or "utf8" in said.lower():
        said = f"it is not UTF-8 ({said}): save it as UTF-8"
    elif "straddling" in said or "out of sync" in said:
        said = f'a row is larger than {BLOCK_BYTES >> 20} MB, or a quote (") is not closed ({said}): mend the row'
    elif "Expected 1 columns" in said:
        said = f"{said} (separated by ';'? {_SEPARATORS})"
    return ImportFailed(f"cannot read {file} as {form_of(file)}: {said}")


def separator_hint(names: Iterable[str], wanted: str) -> str:
    """What to say when the wanted column is only part of a name: the header was not taken apart; else ''."""
    for name in names:
        for mark, called in _MARKS.items():
            parts = [part.strip(" \"'") for part in name.split(mark)]
            if len(parts) > 1 and any(fnmatchcase(part, wanted) for part in parts):
                return f" (separated by {called}? {_SEPARATORS})"
    return ""
