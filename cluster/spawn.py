"""One worker: its actor made and ended, and what is known of it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray.actor import ActorHandle, ActorProxy

from cluster.actor import ShardActor, ShardWorker, Started
from cluster.nodes import placement
from cluster.options import RayOptions
from cluster.timing import ClockOffset


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One actor and what is known of it."""

    id: str
    slot: int
    actor: ActorProxy[ShardWorker]
    started: Started | None = None
    leaving: bool = False  # its node was told to go; another worker has its slot
    clock: ClockOffset = field(default_factory=ClockOffset)
    misses: int = 0  # limits that it let pass since its last answer

    @property
    def node(self) -> str:
        """Ray's id of its node; empty until it has started."""
        return self.started.node if self.started else ""


def spawn(slot: int, generation: int, options: RayOptions, avoided: tuple[str, ...]) -> Worker:
    """Asks Ray for an actor; returns at once, whether there is room for it or not."""
    settings: dict[str, Any] = {
        "num_cpus": options.cpus_per_worker,
        "num_gpus": options.gpus_per_worker,
        "max_restarts": 0,
        "max_task_retries": 0,
        "enable_task_events": False,  # else Ray's head remembers every item: 60 MB in 10,000 steps
        **placement(avoided),
    }
    if options.env_vars:
        settings["runtime_env"] = {"env_vars": dict(options.env_vars)}
    worker_id = f"w{slot}" if generation == 0 else f"w{slot}.{generation}"
    actor: ActorProxy[ShardWorker] = ShardActor.options(**settings).remote(worker_id, slot)
    return Worker(id=worker_id, slot=slot, actor=actor)


def kill(worker: Worker) -> None:
    """Ends the actor, whatever it does."""
    ray.kill(cast("ActorHandle[Any]", worker.actor))  # ActorProxy is the same object, typed


def pids(workers: Sequence[Worker]) -> dict[str, int]:
    """Worker id -> process id, of those that are ready."""
    return {worker.id: worker.started.pid for worker in workers if worker.started is not None}
