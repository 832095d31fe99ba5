"""A run that failed for good leaves a mark, so that a scheduler's retry with ``--resume`` ends at once.

```
RUN/failed.json   when, exit_code, error (type), message, cure
```
Only what the same command would meet again leaves one: data (65), a bug or a user's code that raised (70), a
configuration that cannot be carried out (78). A refusal before the run began leaves none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metadist.durable import write_atomically
from metadist.errors import DataError, FailedForGood, OwnershipLost, SaveFailed
from metadist.failures import exit_code_of

MARK = "failed.json"
CURES = {
    65: "mend the data, or the settings that the message names",
    70: "mend the code that raised; `metadist replay` runs a shard of the run in a process where a debugger works",
    78: "mend the configuration",
}
THE_MACHINE = (OSError, MemoryError)  # a full disk or memory passes: these end a run with 70, too


def is_permanent(error: BaseException) -> bool:
    """Whether the same command would fail in the same way again.

    >>> is_permanent(ValueError("a bug")), is_permanent(OSError("disk full")), is_permanent(KeyboardInterrupt())
    (True, False, False)
    """
    return exit_code_of(error) in CURES and not isinstance(error, THE_MACHINE)


@contextmanager
def marked(run_dir: Path, check_owner: Callable[[], None], on_message: Callable[[str], None]) -> Iterator[None]:
    """Mark the folder if the block fails for good, and if it is still ours."""
    try:
        yield
    except Exception as error:
        if is_permanent(error):
            try:
                _mark(run_dir, error, check_owner)
            except SaveFailed as second:  # the first error is the one to report
                on_message(f"the failure could not be marked: {second}")
        raise


def refuse_failed(run_dir: Path) -> None:
    """Refuse to go on where the run failed for good.

    Raises:
        FailedForGood: with the exit code of that failure, and how to go on.
    """
    mark = read_mark(run_dir)
    if mark is not None:
        raise FailedForGood(
            str(run_dir), mark["when"], mark["exit_code"], mark["error"], mark["message"].splitlines()[0], mark["cure"]
        )


def read_mark(run_dir: Path) -> dict[str, Any] | None:
    """What ``failed.json`` says; None where the run has not failed for good."""
    try:
        found: dict[str, Any] = json.loads((run_dir / MARK).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(f"{run_dir / MARK} cannot be read; remove it to go on") from None
    return found


def forget(run_dir: Path) -> None:
    """Remove the mark; the run goes on."""
    (run_dir / MARK).unlink(missing_ok=True)


def _mark(run_dir: Path, error: Exception, check_owner: Callable[[], None]) -> None:
    try:
        check_owner()
    except OwnershipLost:
        return
    code = exit_code_of(error)
    facts = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "exit_code": code,
        "error": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "cure": CURES[code],
    }
    write_atomically(run_dir / MARK, json.dumps(facts, indent=1))
