"""What goes wrong in a worker or on the disk, told in our words: exit code, task keys, the line that helps."""

from __future__ import annotations

import errno
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
from metadist.errors import DataError, DiskRefused, MetadistError, ServiceAway

DATA_ERRORS = (
    "NonFiniteGradient",
    "CorruptStore",
    "StoreMissing",
    "NotEnoughExamples",
    "SchemaMismatch",
    "DataError",
)

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class ShardError(MetadistError):
    """The work function raised in a worker; the message holds the remote traceback and the replay line."""


class ShardDataError(DataError):
    """A shard failed because of its data or its numbers."""


@contextmanager
def translated(run_dir: Path) -> Iterator[None]:
    """Turn errors of a group and of the disk into ours, with the exit code and the command that helps."""
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
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or run_dir
        raise DiskRefused(
            f"cannot write to {where} ({error.strerror}); what was written before is whole: make room or repair the "
            "disk, then --resume"
        ) from error
