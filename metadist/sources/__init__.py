"""Where tasks come from."""

from __future__ import annotations

from metadist.config import RunConfig
from metadist.sources.parquet import ParquetSource
from metadist.sources.sinusoid import SinusoidSource

__all__ = ["ParquetSource", "SinusoidSource", "Source", "build_source"]

Source = ParquetSource | SinusoidSource


def build_source(config: RunConfig, location: str | None) -> Source:
    """The configured source. ``location`` is where the named store was found; a worker never looks it up itself."""
    tasks, evaluation = config.tasks, config.evaluation
    shots, queries = evaluation.shots or tasks.shots, evaluation.queries or tasks.queries
    if tasks.source == "synthetic":
        return SinusoidSource(
            location,
            run_seed=config.seed,
            evaluation_seed=evaluation.seed,
            sizes=(tasks.shots, tasks.queries),
            fixed_sizes=(shots, queries),
        )
    return ParquetSource(
        tasks,
        location or "",
        run_seed=config.seed,
        evaluation_seed=evaluation.seed,
        shots=shots,
        queries=queries,
    )
