"""What every command shares: one JSON object on stdout, everything for people on stderr, errors as exit codes."""

from __future__ import annotations

import errno
import json
import math
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DISK_AWAY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE})


def console() -> Console:
    """The console for people; made anew where stderr was replaced."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


errors = console()


def say(message: str) -> None:
    """A line for people."""
    errors.print(message, markup=False)


def emit(result: Mapping[str, Any], *, as_json: bool, lines: Callable[[], Iterator[str]]) -> None:
    """The command's answer: the JSON object, or lines for people, on stdout."""
    if as_json:
        sys.stdout.write(json.dumps(_finite(result), default=str) + "\n")
    else:
        for line in lines():
            sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def progress(total: int, description: str) -> Iterator[Callable[[int, str], None]]:
    """A bar on a terminal, else a plain line now and then. Yields ``advance(done, text)``."""
    if not errors.is_terminal:
        printed = [0]

        def plain(done: int, text: str) -> None:
            if done == total or done - printed[0] >= max(1, total // 20):
                printed[0] = done
                say(f"{description} {done}/{total} {text}")

        yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=errors) as bar:
        task = bar.add_task(description, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn a user's mistake into one line and its exit code; only our own bugs show a traceback.

    Under ``python -m pdb`` every error goes through as it is, so that the debugger stops where it was raised.
    """
    from cluster import ClusterError
    from metadist.errors import DataError, MetadistError, SaveFailed
    from metadist.failures import exit_code_of
    from tasks_store import TaskStoreError

    try:
        yield
    except (MetadistError, TaskStoreError, ClusterError) as error:
        if is_debugged():
            raise
        _fail(str(error), exit_code_of(error))
    except OSError as error:
        if is_debugged() or not _is_of_the_user(error):
            raise
        code = SaveFailed.exit_code if error.errno in DISK_AWAY else DataError.exit_code
        _fail(f"cannot read or write {error.filename}: {error.strerror}", code)
    except KeyboardInterrupt as stop:
        _fail("interrupted; nothing that was whole is lost, run again with --resume", exit_code_of(stop))


def _is_of_the_user(error: OSError) -> bool:
    """Whether it is about a file that neither metadist nor Python brought along."""
    ours = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")))
    named = isinstance(error.filename, str | Path) and bool(error.strerror)
    return named and not any(Path(error.filename).absolute().is_relative_to(folder) for folder in ours)


@contextmanager
def writing_to(place: str | Path) -> Iterator[None]:
    """Turn what the operating system refuses of a command that writes to ``place`` into one line and exit code 69."""
    from metadist.errors import SaveFailed

    try:
        yield
    except OSError as error:
        if is_debugged():
            raise
        named = error.filename if isinstance(error.filename, str) else place
        reason = error.strerror or str(error)
        cure = f"make room, correct its permissions, or write to another place than {place}"
        _fail(f"the operating system refused {named} ({reason}): {cure}", SaveFailed.exit_code)


def is_debugged() -> bool:
    """Whether pdb runs this program. (Its trace function is gone once it was told to continue.)"""
    return any(frame.f_globals.get("__name__") == "bdb" for frame, _ in traceback.walk_stack(None))


def _fail(message: str, code: int) -> None:
    say(f"error: {message}")
    raise typer.Exit(code) from None


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: such a figure is null, and its neighbours say why."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percent(value: float | None, half: float | None) -> str:
    """``95.1 +- 0.4 %``."""
    return "not finite" if value is None else f"{100 * value:.1f} +- {100 * (half or 0):.1f} %"


def figure(metric: str, figures: Mapping[str, Any]) -> str:
    """A metric with its interval, in percent where it is an accuracy."""
    value, half = figures[metric], figures["ci95"]
    if metric == "accuracy":
        return f"accuracy {percent(value, half)}"
    return f"{metric} not finite" if value is None else f"{metric} {value:.4g} +- {half or 0:.2g}"
