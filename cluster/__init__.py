"""A deterministic, fault-tolerant, ordered map-reduce over workers.

Items are evaluated wherever there is a worker, and their results come back in item order: the numbers do not
depend on how many workers there are, how fast they are, or which of them die. Knows nothing of what is
computed. ``LocalGroup`` runs in this process; ``RayGroup`` on Ray actors, and only it imports Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.connect import joined
from cluster.context import WorkerContext, worker_context
from cluster.errors import (
    AddressRefused,
    ClusterError,
    ClusterUnavailable,
    ContractViolation,
    GroupStartTimeout,
    PlaceFailure,
    ResultsDiffer,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
    WorkerStartFailed,
)
from cluster.fold import OrderedFold
from cluster.group import (
    Canary,
    Event,
    Folded,
    Item,
    OnEvent,
    Partial,
    StepTiming,
    Vector,
    WorkerGroup,
    WorkFactory,
    WorkFunction,
)
from cluster.local import LocalGroup
from cluster.options import RayOptions

if TYPE_CHECKING:
    from cluster.driver import RayGroup

__metadist__ = True  # `cluster` is a common name: a start-up check can tell this package from another one

__all__ = [
    "AddressRefused",
    "Canary",
    "ClusterError",
    "ClusterUnavailable",
    "ContractViolation",
    "Event",
    "Folded",
    "GroupStartTimeout",
    "Item",
    "LocalGroup",
    "OnEvent",
    "OrderedFold",
    "Partial",
    "PlaceFailure",
    "RayGroup",
    "RayOptions",
    "ResultsDiffer",
    "ShardFailed",
    "ShardPoisoned",
    "StepTiming",
    "Vector",
    "WorkFactory",
    "WorkFunction",
    "WorkerContext",
    "WorkerGroup",
    "WorkerStartFailed",
    "WorkersLost",
    "joined",
    "worker_context",
]


def __getattr__(name: str) -> Any:
    if name == "RayGroup":  # imports Ray, which takes half a second that a local run need not wait
        from cluster.driver import RayGroup

        return RayGroup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
