"""What a run journalled and what MLflow has of it, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metadist.tracking import JOURNAL_NAME, read_events
from metadist.tracking.plan import safe_name
from metadist.tracking.state import ROLLED_BACK_NAME, load_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

Rows = list[tuple[str, int, int, float]]
"""(metric, step, milliseconds since 1970, value), sorted."""


def written(journal: Path) -> Rows:
    """Every point of a journal, or of the lines that a resume has dropped from one."""
    return sorted(
        (safe_name(name), event.step or 0, event.time, value)
        for event in read_events(journal)
        if event.kind == "metrics"
        for name, value in event.data.items()
    )


def arrived(reader: MlflowClient, run_dir: Path) -> Rows:
    """Every point that MLflow has of the run, as often as it has it."""
    run = load_run(run_dir)
    assert run is not None and run.run_id
    return sorted(
        (name, point.step, point.timestamp, point.value)
        for name in reader.get_run(run.run_id).data.metrics
        for point in reader.get_metric_history(run.run_id, name)
    )


def num_runs(reader: MlflowClient, run_dir: Path) -> int:
    """How many MLflow runs were made for this run folder."""
    run = load_run(run_dir)
    assert run is not None
    experiment = reader.get_experiment_by_name(run.experiment)
    assert experiment is not None
    return len(reader.search_runs([experiment.experiment_id], f"tags.`metadist.run_token` = '{run.token}'"))


def check_points(reader: MlflowClient, run_dir: Path) -> int:
    """Every point has arrived, once, as it was written, in one run; how many there are.

    A point that a resume computed again may have arrived as it was written the first time.
    """
    expected, found = written(run_dir / JOURNAL_NAME), arrived(reader, run_dir)
    dropped = run_dir / ROLLED_BACK_NAME
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert set(found) <= {*expected, *(written(dropped) if dropped.is_file() else ())}
    assert dropped.is_file() or found == expected
    assert num_runs(reader, run_dir) == 1
    return len(found)
