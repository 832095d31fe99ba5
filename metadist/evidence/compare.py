"""Two runs judged on the same fixed tasks, compared task by task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.config.presets import larger_is_better
from metadist.errors import DataError
from metadist.evaluate import mean_ci95
from metadist.evidence.baselines import BEATEN, BEATS, UNDECIDED, verdict
from metadist.folder.reports import report_folder, settings_of
from metadist.run_reader import Run, evaluate_run, load_run


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
    """The run's own evaluation of its best checkpoint on ``split``; it is judged now where there is none yet."""
    run = load_run(run_dir)
    folder = report_folder(run.run_dir, split, run.checkpoint("best").state.step)
    if _settings_in(folder) != settings_of(run.config):
        on_message(f"judging {run_dir} on {split} tasks")
        evaluate_run(run_dir, split=split, on_message=on_message)
    return _read(run, str(run_dir), folder)


def judged_alike(run_a: Path, run_b: Path, split: str, on_message: Callable[[str], None]) -> tuple[Judged, Judged]:
    """The own evaluations of two runs; where these are of other tasks, the reports of both on the most tasks that both
    were judged on, each after its own inner steps and by its own metric."""
    own = judged(run_a, split, on_message), judged(run_b, split, on_message)
    if _task_set(own[0]) == _task_set(own[1]):
        return own
    first, second = ({_task_set(found): found for found in _others(run, split)} for run in (run_a, run_b))
    first, second = {**first, _task_set(own[0]): own[0]}, {**second, _task_set(own[1]): own[1]}
    shared = max(first.keys() & second.keys(), key=lambda name: (first[name].report["num_tasks"], name), default=None)
    return own if shared is None else (first[shared], second[shared])


def _task_set(found: Judged) -> str:
    return str(found.report["task_set"])


def _others(run_dir: Path, split: str) -> Iterator[Judged]:
    """Reports of the best checkpoint on other tasks than the run's own evaluation."""
    run = load_run(run_dir)
    folder, own = report_folder(run.run_dir, split, run.checkpoint("best").state.step), settings_of(run.config)
    for other in sorted(folder.parent.glob(f"{folder.name}_*")):
        settings = _settings_in(other)
        if settings is not None and all(settings[key] == own[key] for key in ("inner_steps", "metric")):
            yield _read(run, str(run_dir), other)


def _settings_in(folder: Path) -> dict[str, Any] | None:
    """The settings that a report was made under; None where there is none that says so."""
    try:
        found: dict[str, Any] | None = json.loads((folder / "report.json").read_text()).get("evaluation")
    except FileNotFoundError:
        return None
    return found


def _read(run: Run, name: str, folder: Path) -> Judged:
    with np.load(folder / "tasks.npz", allow_pickle=False) as arrays:
        scores = {name: arrays[name] for name in arrays.files}
    settings = run.config.evaluation
    return Judged(
        name=name,
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
        winner = {BEATS: one.name, BEATEN: other.name, UNDECIDED: None}
        found[kind] = {
            "runs": {run.name: _mean(run, values) for run, values in ((one, ours), (other, theirs))},
            "difference": difference,
            "difference_ci95": half,
            "winner": winner[verdict(theirs, ours, maximise=one.maximise)],
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
