"""Which group a configuration asks for. Nothing decided here changes a number, but for the kind of device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cluster import Canary, Event, LocalGroup, RayGroup, RayOptions, WorkerGroup, joined
from metadist import numerics
from metadist.config import RunConfig
from metadist.worker import ShardFactory


@dataclass(frozen=True, slots=True)
class Place:
    """What there is to compute on: workers, their device, and each one's share of a GPU."""

    num_workers: int
    device: str
    gpus_per_worker: float


@contextmanager
def place_of(config: RunConfig) -> Iterator[Place]:
    """Join the configured cluster while the block lasts, and settle what it decides: workers and device."""
    if config.cluster.backend == "local":
        yield chosen(config, {})
        return
    with joined(_options(config, num_workers=_asked(config) or 1)) as resources:
        yield chosen(config, resources)


def chosen(config: RunConfig, resources: Mapping[str, float]) -> Place:
    """``auto`` settled: a GPU a worker where the cluster has any, else its cores; never more workers than shards.

    >>> from metadist.config.load import load_config
    >>> config = load_config("glyphs", {"cluster.num_workers": "auto"})
    >>> chosen(config, {"CPU": 64, "GPU": 2})
    Place(num_workers=2, device='cuda', gpus_per_worker=1.0)
    >>> chosen(config, {"CPU": 64}).num_workers
    4
    """
    settings = config.cluster
    available = resources.get("GPU", 0.0)
    gpus = settings.gpus_per_worker
    wanted = float(gpus) if gpus != "auto" else 1.0 if available and config.engine.device != "cpu" else 0.0
    device = config.engine.device if config.engine.device != "auto" else "cuda" if wanted else "cpu"
    if settings.backend == "local":
        return Place(1, device, 0.0)
    room = available / wanted if wanted else resources.get("CPU", 1.0) / settings.cpus_per_worker
    shards = config.outer.meta_batch_size // (config.outer.shard_size or 1)
    return Place(_asked(config) or max(1, min(int(room), shards)), device, wanted)


def open_group(
    config: RunConfig,
    place: Place,
    factory: ShardFactory,
    on_event: Callable[[Event], None],
    canary: Canary | None = None,
) -> WorkerGroup:
    """The group of ``cluster.backend`` in ``place``; close it when done."""
    if config.cluster.backend == "local":
        return LocalGroup(factory, on_event=on_event)
    return RayGroup(factory, _options(config, place.num_workers, place.gpus_per_worker), on_event, canary)


def _asked(config: RunConfig) -> int | None:
    return None if config.cluster.num_workers == "auto" else config.cluster.num_workers


def _options(config: RunConfig, num_workers: int, gpus_per_worker: float = 0.0) -> RayOptions:
    settings = config.cluster
    return RayOptions(
        address=settings.address,
        num_workers=num_workers,
        cpus_per_worker=settings.cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        max_attempts=settings.max_attempts,
        max_restarts=settings.max_restarts,
        restart_window_s=settings.restart_window_s,
        warmup_timeout_s=settings.warmup_timeout_s,
        deadline_factor=settings.deadline_factor,
        deadline_min_s=settings.deadline_min_s,
        min_workers=min(settings.min_workers, num_workers),
        max_workers=max(settings.max_workers or 0, num_workers),
        capacity_timeout_s=settings.capacity_timeout_s,
        allow_mixed_numerics=settings.allow_mixed_numerics,
        env_vars=numerics.environment(config.engine.threads),
    )
