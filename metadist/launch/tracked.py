"""A run's journal and mirror while it runs: how it ended is journalled, what MLflow has not got is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from metadist.tracking import Journal, JournalWriteFailed, MlflowMirror


@dataclass(slots=True)
class Tracked:
    """What is known of a run's tracking.

    Attributes:
        status: Journalled where nothing is raised.
        unsent: Events that MLflow does not have; known at the end.
    """

    status: str = "FINISHED"
    unsent: int = 0


@contextmanager
def tracked(
    journal: Journal,
    mirror: MlflowMirror,
    check_owner: Callable[[], None],
    on_message: Callable[[str], None],
    *,
    drain_s: float,
) -> Iterator[Tracked]:
    """Mirror the journal while the block runs, journal how it ended, and send the rest for ``drain_s`` seconds.

    Raises:
        OwnershipLost: the block failed, and the folder is another driver's: that is the cause.
    """
    told = Tracked()
    try:
        mirror.start()
        yield told
        journal.status(told.status)
    except BaseException as error:
        if isinstance(error, Exception):
            check_owner()  # who hung and lost the folder may fail in many ways: this is their cause
        try:
            journal.status("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except JournalWriteFailed as second:  # the first error is the one to report
            on_message(str(second))
        raise
    finally:
        told.unsent = mirror.close(timeout=drain_s)
        if told.unsent:
            why = f" ({mirror.last_error})" if mirror.last_error else ""
            on_message(f"{told.unsent} events have not reached MLflow{why}: metadist sync {journal.run_dir}")
