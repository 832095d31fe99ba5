"""An exception as a value that always travels, even when the exception itself does not pickle."""

from __future__ import annotations

import errno
import pickle
import traceback
from dataclasses import dataclass

from cluster.errors import PlaceFailure

DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE})
"""What a full or failing disk of one machine answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What was raised in a worker.

    Attributes:
        place: whether the place is to blame (out of memory, a failing disk, ``PlaceFailure``), so that another may
            succeed.
        error_type: the class's name, with its module unless it is a builtin.
        message: ``str(exception)``.
        remote_traceback: as text.
        pickled: the exception itself, or None if it does not survive a pickle.
    """

    place: bool
    error_type: str
    message: str
    remote_traceback: str
    pickled: bytes | None = None

    def original(self) -> BaseException | None:
        """The exception itself, if it can be had in this process."""
        return _unpickle(self.pickled) if self.pickled is not None else None


def capture(error: Exception) -> Failure:
    """Describes an exception by type, never by the words of its message."""
    return Failure(
        place=_is_of_the_place(error),
        error_type=type_name(type(error)),
        message=_text(error),
        remote_traceback="".join(traceback.format_exception(error)),
        pickled=_pickle(error),
    )


def _is_of_the_place(error: Exception) -> bool:
    failing_disk = isinstance(error, OSError) and error.errno in DISK_ERRNOS
    return failing_disk or isinstance(error, (PlaceFailure, MemoryError))


def type_name(cls: type[BaseException]) -> str:
    """``ValueError``, but ``package.module.OwnError``."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception as broken:  # a user's __str__ may itself be wrong; the failure must still be reported
        return f"<no message: its __str__ raised {type_name(type(broken))}>"


def _pickle(error: Exception) -> bytes | None:
    # Loaded again here: an exception whose constructor takes other arguments pickles and then fails to load.
    try:
        data = pickle.dumps(error)
    except Exception:  # whatever a user's __reduce__ raises: the exception travels as text alone
        return None
    return data if _unpickle(data) is not None else None


def _unpickle(data: bytes) -> BaseException | None:
    try:
        error = pickle.loads(data)
    except Exception:  # its module may be missing here, or its constructor may refuse
        return None
    return error if isinstance(error, BaseException) else None
