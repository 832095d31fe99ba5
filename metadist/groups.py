"""Which group a configuration asks for. Nothing decided here changes a number, but for the kind of device."""

from __future__ import annotations

import os
from collections.abc import Callable

from cluster import Event, LocalGroup, RayGroup, RayOptions, WorkerGroup
from metadist import numerics
from metadist.config import RunConfig
from metadist.worker import ShardFactory


def num_workers(config: RunConfig, gpus: float = 0) -> int:
    """``auto``: one worker a GPU where there are any, else one a core; never more than there are shards."""
    asked = config.cluster.num_workers
    if config.cluster.backend == "local":
        return 1
    if asked != "auto":
        return asked
    shards = config.outer.meta_batch_size // (config.outer.shard_size or 1)
    return max(1, min(int(gpus) or os.cpu_count() or 1, shards))


def resolved_device(config: RunConfig) -> str:
    """``auto`` is the GPU where workers are given one, else the CPU; it is recorded before step 0."""
    if config.engine.device != "auto":
        return config.engine.device
    asked = config.cluster.gpus_per_worker
    return "cuda" if asked != "auto" and asked > 0 else "cpu"


def open_group(config: RunConfig, factory: ShardFactory, on_event: Callable[[Event], None]) -> WorkerGroup:
    """The group of ``cluster.backend``; close it when done."""
    if config.cluster.backend == "local":
        return LocalGroup(factory, on_event=on_event)
    settings = config.cluster
    gpus = settings.gpus_per_worker
    options = RayOptions(
        address=settings.address,
        num_workers=num_workers(config),
        cpus_per_worker=settings.cpus_per_worker,
        gpus_per_worker=(1 if factory.device == "cuda" else 0) if gpus == "auto" else gpus,
        max_attempts=settings.max_attempts,
        max_restarts=settings.max_restarts,
        restart_window_s=settings.restart_window_s,
        warmup_timeout_s=settings.warmup_timeout_s,
        env_vars=numerics.environment(config.engine.threads),
    )
    return RayGroup(factory, options, on_event=on_event)
