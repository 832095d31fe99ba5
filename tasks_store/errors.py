"""The errors of tasks_store: one tree, every class survives pickling.

A message says what is wrong, the values on both sides, where, and what to do. Fields repeat the
values for programs. Errors cross process borders (a worker reads, the driver reports), and an
exception with its own ``__init__`` is lost in pickling unless it says how it is rebuilt.
"""

from __future__ import annotations

from typing import Any


class TaskStoreError(Exception):
    """The root of every error raised by tasks_store.

    Example:
        >>> import pickle
        >>> error = pickle.loads(pickle.dumps(CorruptStore("bad", path="a.parquet", row_group=3)))
        >>> (type(error).__name__, str(error), error.row_group)
        ('CorruptStore', 'bad', 3)
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[TaskStoreError], args: tuple[Any, ...], fields: dict[str, Any]) -> TaskStoreError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


class StoreMissing(TaskStoreError):
    """No store is at the given place; ``command`` is the one that makes it ('' when unknown)."""

    def __init__(self, message: str, *, path: str = "", command: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.command = command


class StoreEmpty(TaskStoreError):
    """A store, a split or an input has no rows."""


class StoreExists(TaskStoreError):
    """The output folder holds a store (or foreign files) already; stores are never overwritten."""


class StoreVersionError(TaskStoreError):
    """The manifest was written in a newer format than this package reads."""

    def __init__(self, message: str, *, found: int = 0, supported: int = 0) -> None:
        super().__init__(message)
        self.found = found
        self.supported = supported


class CorruptStore(TaskStoreError):
    """Bytes of a store are not what was written: truncated, flipped, missing or inconsistent."""

    def __init__(self, message: str, *, path: str = "", row_group: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.row_group = row_group


class SchemaMismatch(TaskStoreError):
    """A row, column, split or option does not fit the declared schema."""


class NotEnoughExamples(TaskStoreError):
    """An episode asks for more classes, or more rows of a class, than there are."""

    def __init__(self, message: str, *, needed: int = 0, available: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class ImportFailed(TaskStoreError):
    """A foreign data set cannot be read, fetched or trusted."""


class WrongOptions(ImportFailed):
    """Options of an import are out of range or do not go together; no file was opened."""
