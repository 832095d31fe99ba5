"""Ctrl-C and SIGTERM: in training the step at hand is finished and a checkpoint written; elsewhere it ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from metadist.errors import EXIT_CTRL_C, EXIT_INTERRUPTED


class Terminated(KeyboardInterrupt):
    """SIGTERM came where there was no step to finish. Like Ctrl-C it passes every ``except Exception``."""


class Interruption:
    """Whether somebody asked the run to end; a second Ctrl-C does not wait for the step."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._in_training = False

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        again = self.exit_code is not None
        if number == signal.SIGINT and (again or not self._in_training):
            raise KeyboardInterrupt
        if not self._in_training:
            raise Terminated
        self.exit_code = EXIT_CTRL_C if number == signal.SIGINT else EXIT_INTERRUPTED

    @contextmanager
    def in_training(self) -> Iterator[None]:
        """While the block lasts there is a step to finish."""
        self._in_training = True
        try:
            yield
        finally:
            self._in_training = False

    def watch(self) -> None:
        """Take the signals (again: Ray puts a handler of its own in place when it is joined)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.ask)


@contextmanager
def watched() -> Iterator[Interruption]:
    """Watch SIGINT and SIGTERM while the block lasts; in a thread other than the main one only Python can ask."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.watch()
    try:
        yield interruption
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
