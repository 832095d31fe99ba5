"""What goes wrong in a run, told in the driver's words: exit code, task keys, and the line that replays it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import (
    AddressRefused,
    ClusterError,
    ClusterUnavailable,
    GroupStartTimeout,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
    WorkerStartFailed,
)
from metadist.errors import (
    EXIT_BUG,
    EXIT_CTRL_C,
    EXIT_INTERRUPTED,
    ConfigError,
    DataError,
    MetadistError,
    ServiceAway,
    UsageError,
)
from metadist.interruption import Terminated
from tasks_store import TaskStoreError, WrongOptions

DATA_ERRORS = (
    "NonFiniteGradient",
    "CorruptStore",
    "StoreMissing",
    "NotEnoughExamples",
    "SchemaMismatch",
    "DataError",
)
CONFIG_ERRORS = ("ConfigError", "ModelError")
SEND = "--working-dir DIR sends a folder of code to every worker"
FIXED_TASKS = re.compile(r"tasks (\w+)/fixed/")  # as `metadist.tasks.Shard.describe` writes an evaluation's shard


class ShardError(MetadistError):
    """The work function raised in a worker; the message holds the remote traceback and the replay line."""


class ShardDataError(DataError):
    """A shard failed because of its data or its numbers."""


def exit_code_of(error: BaseException) -> int:
    """The exit code that the command line gives this error.

    >>> exit_code_of(ServiceAway("no")), exit_code_of(ValueError("ours"))
    (69, 70)
    """
    if isinstance(error, MetadistError):
        return error.exit_code
    if isinstance(error, TaskStoreError):
        return (UsageError if isinstance(error, WrongOptions) else DataError).exit_code
    if isinstance(error, ClusterError):
        return ServiceAway.exit_code
    if isinstance(error, Terminated):
        return EXIT_INTERRUPTED
    return EXIT_CTRL_C if isinstance(error, KeyboardInterrupt) else EXIT_BUG


@contextmanager
def translated(run_dir: Path) -> Iterator[None]:
    """Turn a group's errors into ours, with the exit code and the command that helps."""
    try:
        yield
    except ShardFailed as error:
        raise _of_a_shard(error, replay_line(run_dir, error)) from error
    except ShardPoisoned as error:
        cure = "engine.chunk_size can be lowered where memory ran out (it changes the bits)"
        raise ServiceAway(f"{error}; {cure}; replay it here: {replay_line(run_dir, error)}") from error
    except WorkerStartFailed as error:
        raise _of_a_start(error) from error
    except AddressRefused as error:
        raise ConfigError(str(error)) from error
    except (ClusterUnavailable, GroupStartTimeout, WorkersLost) as error:
        raise ServiceAway(str(error)) from error
    except ClusterError as error:
        raise MetadistError(str(error)) from error


def replay_line(run_dir: Path, error: ShardFailed | ShardPoisoned) -> str:
    """The command that runs the shard again in the caller's process."""
    line = f"metadist replay {shlex.quote(str(run_dir))} --step {error.version} --shard {error.index}"
    fixed = FIXED_TASKS.search(error.describe)
    return f"{line} --split {fixed[1]}" if fixed else line


def _of_a_start(error: WorkerStartFailed) -> MetadistError:
    if _kind(error.error_type) in CONFIG_ERRORS:
        return ConfigError(f"worker {error.worker} cannot start: {error.message}")
    if _kind(error.error_type) == "ModuleNotFoundError":
        return ConfigError(f"worker {error.worker} cannot start: {error.message}; install it on every node, or {SEND}")
    return (ShardDataError if _is_data(error.error_type) else MetadistError)(str(error))


def _of_a_shard(error: ShardFailed, replay: str) -> MetadistError:
    if _kind(error.error_type) == "ModuleNotFoundError":
        return ConfigError(
            f"{error.describe}: worker {error.worker} cannot import what the code needs: {error.message}; install it "
            f"on every node, or {SEND}"
        )
    if _is_data(error.error_type):
        where = "" if error.error_type.endswith("NonFiniteGradient") else f"{error.describe}: "
        return ShardDataError(f"{where}{error.message} [replay: {replay}]")
    return ShardError(
        f"{error.describe} raised {error.error_type} in worker {error.worker}: {error.message}\n"
        f"--- traceback in the worker ---\n{error.remote_traceback.rstrip()}\nreplay it here: {replay}"
    )


def _is_data(error_type: str) -> bool:
    return _kind(error_type) in DATA_ERRORS


def _kind(error_type: str) -> str:
    return error_type.rsplit(".", 1)[-1]
