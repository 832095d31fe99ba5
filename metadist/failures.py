"""What goes wrong in a worker, told in the driver's words: exit code, task keys, and the line that replays it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import (
    ClusterError,
    ClusterUnavailable,
    GroupStartTimeout,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
)
from metadist.errors import DataError, MetadistError, ServiceAway

DATA_ERRORS = (
    "NonFiniteGradient",
    "CorruptStore",
    "StoreMissing",
    "NotEnoughExamples",
    "SchemaMismatch",
    "DataError",
)


class ShardError(MetadistError):
    """The work function raised in a worker; the message holds the remote traceback and the replay line."""


class ShardDataError(DataError):
    """A shard failed because of its data or its numbers."""


@contextmanager
def translated(run_dir: Path) -> Iterator[None]:
    """Turn a group's errors into ours, with the exit code and the command that helps."""
    try:
        yield
    except ShardFailed as error:
        replay = f"metadist replay {run_dir} --step {error.version} --shard {error.index}"
        name = error.error_type.rsplit(".", 1)[-1]
        if name in DATA_ERRORS:
            raise ShardDataError(f"{error.message} [replay: {replay}]") from error
        raise ShardError(f"{error}\nreplay it here: {replay}") from error
    except ShardPoisoned as error:
        replay = f"metadist replay {run_dir} --step {error.version} --shard {error.index}"
        cure = "engine.chunk_size can be lowered where memory ran out (it changes the bits)"
        raise ServiceAway(f"{error}; {cure}; replay it here: {replay}") from error
    except (ClusterUnavailable, GroupStartTimeout, WorkersLost) as error:
        raise ServiceAway(str(error)) from error
    except ClusterError as error:
        raise MetadistError(str(error)) from error
