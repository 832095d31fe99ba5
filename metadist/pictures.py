"""The pictures of a run: its training curve, and its validation score against the number of inner steps."""

from __future__ import annotations

import json
from pathlib import Path

from metadist.plots import metric_series, plot_inner_steps, plot_training_curve
from metadist.tracking import read_events

_JUDGED = ("loss", "accuracy", "mse", "mae", "pinball")
SHOWN = ("train/query_loss", "train/query_accuracy", *(f"validation/{name}" for name in _JUDGED))


def draw(run_dir: Path) -> list[Path]:
    """Draw what the folder's journal and reports hold; returns the files."""
    drawn = []
    series = metric_series(read_events(run_dir), SHOWN)
    if series:
        drawn.append(plot_training_curve(series, run_dir / "plots" / "training.png", title=run_dir.name))
    report = run_dir / "evaluation" / "validation" / "report.json"
    if report.exists():
        by_steps = json.loads(report.read_text())["by_inner_steps"]
        drawn.append(plot_inner_steps(by_steps, run_dir / "plots" / "inner_steps.png", title=run_dir.name))
    return drawn
