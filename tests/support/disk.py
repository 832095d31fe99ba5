"""A disk that can be made to fail: every call that changes a file is counted, and one of them goes wrong."""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

CALLS = ("open", "write", "fsync", "ftruncate", "rename", "replace", "mkdir", "unlink", "rmdir")
GROWING = ("open", "write", "mkdir", "fsync")  # what a full disk refuses; it still renames and removes
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at the ``at``-th call (from 1).

    Attributes:
        at: Which call.
        kind: ``"ENOSPC"`` or ``"EIO"`` is raised; at ``"SIGKILL"`` the process dies. Before the call is made.
        half: A write has then put half of its bytes into the file.
        lasting: Later calls fail, too: all of them, or on a full disk those that need room.
    """

    at: int
    kind: str
    half: bool = False
    lasting: bool = False


@dataclass(slots=True)
class Disk:
    """Counts while `armed`, in the thread that armed it; the heart that beats in another one is not disturbed."""

    fault: Fault | None = None
    calls: list[str] = field(default_factory=list)
    _thread: int = 0

    @contextmanager
    def armed(self) -> Iterator[None]:
        self._thread = threading.get_ident()
        with ExitStack() as stack:
            for name in CALLS:
                stack.enter_context(mock.patch.object(os, name, self._watched(name, getattr(os, name))))
            stack.enter_context(mock.patch.object(io, "open", self._watched("open", io.open)))  # of pathlib
            yield

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == self._thread and not (name == "open" and _only_reads(*arguments, **options)):
                self.calls.append(name)
                self._strike(name, real, arguments)
            return real(*arguments, **options)

        return call

    def _strike(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        fault, number = self.fault, len(self.calls)
        if fault is None or number < fault.at:
            return
        if number > fault.at and not (fault.lasting and (fault.kind == "EIO" or name in GROWING)):
            return
        if fault.half and number == fault.at and name == "write":
            real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if fault.kind == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, fault.kind)
        raise OSError(code, os.strerror(code), *(str(path) for path in arguments[:1] if not isinstance(path, int)))


def _only_reads(path: Any, how: Any = "r", *arguments: Any, mode: Any = None, **options: Any) -> bool:
    how = options.get("flags", how) if isinstance(how, int) else (mode if isinstance(mode, str) else how)
    return not how & WRITING if isinstance(how, int) else not set(how) & set("wax+")
