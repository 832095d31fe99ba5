"""Two runs judged on the same fixed tasks, compared task by task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.config.presets import larger_is_better
from metadist.errors import DataError
from metadist.evaluate import mean_ci95
from metadist.run_reader import evaluate_run, load_run


@dataclass(frozen=True, slots=True)
class Judged:
    """A run's report on a split: what `metadist evaluate` wrote.

    Attributes:
        name: Of the run folder.
        label: Its algorithm.
        report: The report's figures.
        scores: Array name -> per-task scores.
        maximise: Whether more of its deciding metric is better.
    """

    name: str
    label: str
    report: Mapping[str, Any]
    scores: Mapping[str, NDArray[np.float32]]
    maximise: bool

    @property
    def metric(self) -> str:
        return str(next(iter(self.report["one_query_at_a_time"])))


def judged(run_dir: Path, split: str, on_message: Callable[[str], None]) -> Judged:
    """The report of the run's best checkpoint on ``split``; it is judged now where there is none yet."""
    run = load_run(run_dir)
    folder = run.run_dir / "evaluation" / f"{split}-{run.checkpoint('best').state.step:06d}"
    if not (folder / "report.json").exists():
        on_message(f"judging {run_dir} on {split} tasks")
        evaluate_run(run_dir, split=split, on_message=on_message)
    with np.load(folder / "tasks.npz", allow_pickle=False) as arrays:
        scores = {name: arrays[name] for name in arrays.files}
    settings = run.config.evaluation
    return Judged(
        name=str(run_dir),
        label=run.config.algorithm.name,
        report=json.loads((folder / "report.json").read_text()),
        scores=scores,
        maximise=larger_is_better(str(settings.metric)) if settings.maximise is None else settings.maximise,
    )


def compared(one: Judged, other: Judged) -> dict[str, Any]:
    """Figures of both by their deciding metric, and the paired difference ``one - other`` with its 95 % interval.

    ``winner`` is the run that is better by more than the interval, or None.

    Raises:
        DataError: they were judged on other tasks, or by other metrics.
    """
    if one.report["task_set"] != other.report["task_set"]:
        raise DataError(f"{one.name} and {other.name} were judged on other tasks: {_differences(one, other)}")
    if one.metric != other.metric:
        raise DataError(
            f"{one.name} is judged by {one.metric}, {other.name} by {other.metric}: set evaluation.metric of one"
        )
    found: dict[str, Any] = {"metric": one.metric, "num_tasks": one.report["num_tasks"], "split": one.report["split"]}
    for kind, name in (("in_one_pass", f"query/{one.metric}"), ("one_query_at_a_time", f"one_query/{one.metric}")):
        ours, theirs = (_last(run.scores[name]) for run in (one, other))
        difference, half = mean_ci95(ours - theirs)
        ahead = difference if one.maximise else -difference
        found[kind] = {
            "runs": {run.name: _mean(run, values) for run, values in ((one, ours), (other, theirs))},
            "difference": difference,
            "difference_ci95": half,
            "winner": None if not abs(difference) > half else one.name if ahead > 0 else other.name,
        }
    return found


def latex(found: Mapping[str, Any]) -> str:
    """A table of both runs, in percent where the metric is an accuracy."""
    scale, digits = (100, 1) if found["metric"] == "accuracy" else (1, 3)
    kinds = ("in_one_pass", "one_query_at_a_time")
    lines = [r"\begin{tabular}{lcc}", r"run & queries in one pass & one query at a time \\ \hline"]
    for run, figures in found[kinds[0]]["runs"].items():
        cells = [found[kind]["runs"][run] for kind in kinds]
        shown = [
            rf"${scale * cell[found['metric']]:.{digits}f} \pm {scale * cell['ci95']:.{digits}f}$" for cell in cells
        ]
        escaped = f"{figures['algorithm']}, {Path(run).name}".replace("_", r"\_")
        lines.append(rf"{escaped} & {' & '.join(shown)} \\")
    return "\n".join([*lines, r"\end{tabular}"])


def _mean(run: Judged, values: NDArray[np.float64]) -> dict[str, Any]:
    mean, half = mean_ci95(values)
    facts = {key: run.report[key] for key in ("checkpoint", "queries", "normalisation")}
    return {"algorithm": run.label, run.metric: mean, "ci95": half, **facts}


def _last(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """After all inner steps, (N,)."""
    return (scores if scores.ndim == 1 else scores[:, -1]).astype(np.float64)


def _differences(one: Judged, other: Judged) -> str:
    keys = [key for key in ("ways", "shots", "queries", "num_tasks") if one.report.get(key) != other.report.get(key)]
    if not keys:
        return "another store, or another evaluation.seed"
    told = (f"{key} {one.report.get(key)} and {other.report.get(key)}" for key in keys)
    return f"{', '.join(told)}; judge one of them anew with metadist evaluate --num-tasks or --set evaluation.KEY=..."
