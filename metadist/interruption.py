"""Ctrl-C and SIGTERM as a flag: the step at hand is finished, a checkpoint written, then the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from metadist.errors import EXIT_CTRL_C, EXIT_INTERRUPTED


class Interruption:
    """Whether somebody asked the run to end; a second Ctrl-C does not wait for the step."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = EXIT_CTRL_C if number == signal.SIGINT else EXIT_INTERRUPTED


@contextmanager
def watched() -> Iterator[Interruption]:
    """Watch SIGINT and SIGTERM while the block lasts; in a thread other than the main one only Python can ask."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    old = {number: signal.signal(number, interruption.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
