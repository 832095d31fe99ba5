"""What a run says of itself when it ends: the JSON object of ``metadist train --json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metadist.config import RunConfig
from metadist.parameters import sha256
from metadist.tracking import read_events
from metadist.trainer import Outcome

KEYS = (
    "run_dir",
    "run_id",
    "steps",
    "params_sha256",
    "query_loss",
    "query_accuracy",
    "query_mse",
    "query_metrics",
    "tasks_per_second",
    "wall_s",
    "warmup_s",
    "driver_overhead_fraction",
    "actor_busy_fraction",
    "best",
    "unsent_events",
    "exit_code",
)
"""Always all of them; what was not measured is null."""

QUERY = "train/query_"


def summary_of(
    config: RunConfig,
    run_dir: Path,
    outcome: Outcome,
    *,
    run_id: str | None,
    unsent_events: int,
    wall_s: float,
    num_workers: int,
) -> dict[str, Any]:
    """The summary, with the keys of `KEYS`. Where no step was left to do, its metrics are those of the last one that
    the journal has."""
    clock, best = outcome.clock, outcome.best
    metrics = outcome.metrics or last_trained(run_dir)
    query = {name.removeprefix(QUERY): value for name, value in metrics.items() if name.startswith(QUERY)}
    speed = clock.tasks_per_second(config.outer.meta_batch_size) or metrics.get("perf/tasks_per_second", 0.0)
    return {
        "run_dir": str(run_dir),
        "run_id": run_id,
        "steps": outcome.step,
        "params_sha256": sha256(outcome.flat),
        "query_loss": query.get("loss"),
        "query_accuracy": query.get("accuracy"),
        "query_mse": query.get("mse"),
        "query_metrics": query,
        "tasks_per_second": speed,
        "wall_s": wall_s,
        "warmup_s": clock.warmup_s,
        "driver_overhead_fraction": clock.driver_overhead_fraction,
        "actor_busy_fraction": clock.actor_busy_fraction(num_workers),
        "best": None
        if best is None
        else {"step": best.step, "metric": best.metric, "value": best.value, "ci95": best.ci95},
        "unsent_events": unsent_events,
        "exit_code": outcome.exit_code,
    }


def last_trained(run_dir: Path) -> Mapping[str, float]:
    """The metrics of the last training step in the journal; empty where there is none."""
    last: Mapping[str, float] = {}
    for event in read_events(run_dir):
        if event.kind == "metrics" and f"{QUERY}loss" in event.data:
            last = event.data
    return last
