"""The first line of a run: what will be computed, in which pieces, where."""

from __future__ import annotations

from metadist.config import RunConfig
from metadist.worker import Assembly


def plan_line(config: RunConfig, parts: Assembly, num_workers: int) -> str:
    """``32 tasks = 8 shards of 4 | 2 workers (ray) | cpu | 0.45 MB a shard | conv4 112k meta-learned, 0 frozen``."""
    batch, size = config.outer.meta_batch_size, config.outer.shard_size or 1
    shards = batch // size
    learned, frozen = parts.layout.size, sum(leaf.numel() for leaf in parts.model.frozen.values())
    shapes = f" of {len(config.tasks.shapes)} shapes" if config.tasks.shapes else ""
    model = config.model.name or config.model.factory
    line = (
        f"{_many(batch, 'task')}{shapes} = {_many(shards, 'shard')} of {size} | "
        f"{_many(num_workers, 'worker')} ({config.cluster.backend}) | "
        f"{config.engine.device} | {4 * learned / 1e6:.2g} MB a shard | "
        f"{model} {_count(learned)} meta-learned, {_count(frozen)} frozen"
    )
    if config.cluster.backend == "ray" and shards < 2 * num_workers:
        line += (
            f"\nwarning: {_many(shards, 'shard')} for {_many(num_workers, 'worker')} leave some idle; "
            f"a smaller outer.shard_size (which changes the bits) or fewer workers would not"
        )
    return line


def _count(number: int) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}k" if number >= 1e4 else str(number)


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
