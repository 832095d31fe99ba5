"""Is the place to blame, or the work? Decided by the type of what Ray raised, never by its words."""

from __future__ import annotations

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)

from cluster.failure import type_name

# The actor is gone, or can no longer be trusted to be there (ActorUnavailableError, a RayActorError, does not
# prove that it comes back).
_WORKER_FAULTS = (RayActorError, OutOfMemoryError, NodeDiedError, WorkerCrashedError, LocalRayletDiedError)
# One object is gone; the actor may live.
_OBJECT_FAULTS = (ObjectLostError, ObjectStoreFullError, OutOfDiskError)


def is_worker_fault(error: BaseException) -> bool:
    """Whether the worker has to be replaced."""
    return isinstance(error, _WORKER_FAULTS)


def is_place_fault(error: BaseException) -> bool:
    """Whether another place may succeed; else it is a fault of the work."""
    return isinstance(error, _WORKER_FAULTS + _OBJECT_FAULTS)


def describe_fault(error: BaseException) -> str:
    """The type, and the first line of what it says."""
    return f"{type_name(type(error))}: {str(error).strip().partition(chr(10))[0]}"
