"""The Ray actor: builds the work function once, then runs one item at a time.

Nothing raised by the factory or the work function leaves as an exception: it is returned as a ``Failure``,
so that an exception which does not pickle is reported like any other. What Ray raises is then always about
the place (a dead actor, a lost object), never about the work.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.actor import ActorClass

from cluster import context
from cluster.context import WorkerContext
from cluster.digest import digest
from cluster.errors import PlaceFailure
from cluster.failure import Failure, capture
from cluster.group import Canary, Item, Vector, WorkFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker is ready: its process id, Ray node id, the seconds that it took, and what its canary gave."""

    pid: int
    node: str
    startup_s: float
    canary: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of one assignment; ``start`` and ``end`` on the worker's monotonic clock, in seconds."""

    version: int
    index: int
    attempt: int
    start: float
    end: float
    result: Any


class ShardWorker:
    """The plain class behind the actor; all its methods run in one thread."""

    def __init__(self, worker: str, slot: int) -> None:
        self._worker = worker
        self._slot = slot
        self._work: WorkFunction | None = None

    @ray.method
    def start(self, pickled: bytes) -> Started | Failure:
        """Builds the work function from the pickled pair of factory and canary, and tries the canary.

        Not done in ``__init__``: an exception there reaches the driver as text inside an ActorDiedError.
        """
        began = time.monotonic()
        try:
            here = ray.get_runtime_context()
            context.set_current(
                WorkerContext(
                    worker=self._worker,
                    slot=self._slot,
                    backend="ray",
                    accelerator_ids=tuple(here.get_accelerator_ids().get("GPU", ())),
                )
            )
            factory, canary = cloudpickle.loads(pickled)
            self._work = factory()
            sung = _sing(self._work, canary) if canary is not None else None
            return Started(pid=os.getpid(), node=here.get_node_id(), startup_s=time.monotonic() - began, canary=sung)
        except Exception as error:  # a user's factory: any type; it goes back as a value
            return capture(error)

    @ray.method
    def run(self, version: int, shared: Vector, item: Item, index: int, attempt: int) -> Reply:
        """Evaluates one item; ``result`` is what the work function returned, or a ``Failure``."""
        start = time.monotonic()
        result: Any
        try:
            shared.flags.writeable = False  # already so when it lies in the object store
            if self._work is None:
                raise RuntimeError("an item was issued before start() had returned")
            result = self._work(version, shared, item)
        except Exception as error:  # a user's work function: any type; it goes back as a value
            result = capture(error)
        return Reply(version, index, attempt, start, time.monotonic(), result)

    @ray.method
    def ping(self) -> int:
        """The process id: proof that the worker was alive when what follows was begun."""
        return os.getpid()


def _sing(work: WorkFunction, canary: Canary) -> str | None:
    """The digest of the canary's result; None where the work function raises."""
    shared = np.array(canary.shared)
    shared.flags.writeable = False
    try:
        return digest(work(canary.version, shared, canary.item))
    except (PlaceFailure, MemoryError):
        raise
    except Exception:  # the item itself will raise the same, with its name and its traceback
        return None


# Ray's own restarts and retries stay off: they hide why an actor died and would run an item unseen.
ShardActor: ActorClass[ShardWorker] = ray.remote(ShardWorker)
