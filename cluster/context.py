"""What a factory or a work function may ask about the worker it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """One worker, seen from inside.

    Attributes:
        worker: its id; a re-created worker has a new one.
        slot: 0..num_workers-1; a re-created worker keeps the slot of the one it replaces.
        backend: ``"local"`` or ``"ray"``.
        accelerator_ids: the GPUs that Ray assigned to it. Use these, not what a library finds on the
            machine: a worker without GPUs still sees all of them.
    """

    worker: str
    slot: int
    backend: str
    accelerator_ids: tuple[str, ...] = ()


_current: WorkerContext | None = None  # of the process: helper threads of a work function see it too


def worker_context() -> WorkerContext | None:
    """The worker this code runs in; None outside the factories and work functions of a group."""
    return _current


def set_current(context: WorkerContext) -> None:
    """Makes ``context`` the current one for the rest of this process."""
    global _current
    _current = context


@contextmanager
def entered(context: WorkerContext) -> Iterator[None]:
    """Makes ``context`` the current one for a while."""
    global _current
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before
