"""The canary: the shard that every worker computes before it is given work, so that all compute the same bits."""

from __future__ import annotations

from pathlib import Path

from cluster import Canary
from metadist.parameters import flatten
from metadist.tasks import plan_training
from metadist.tracking import read_events
from metadist.worker import Assembly


def canary_of(parts: Assembly, *, expected: str | None) -> Canary:
    """The first shard of the run at its initial parameters; ``expected``: what it gave before."""
    initial = flatten(parts.algorithm.init(parts.config.seed))
    return Canary(version=0, shared=initial, item=plan_training(parts.config, 0)[0], expected=expected)


def sung(run_dir: Path, stop: int) -> str | None:
    """What the canary gave when the run began, from its journal up to a byte offset; None where it ran without one."""
    started = (event.data for event in read_events(run_dir, stop=stop) if event.data.get("name") == "worker_started")
    return next((str(data["canary"]) for data in started if data.get("canary")), None)
