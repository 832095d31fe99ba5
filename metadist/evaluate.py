"""Evaluation on fixed tasks: means over tasks with 95 % intervals, by number of inner steps.

Legend: N tasks, K inner steps.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import WorkerGroup
from metadist.config import RunConfig
from metadist.durable import write_atomically, writing
from metadist.shard import TaskScores
from metadist.tasks import TaskSource, plan_evaluation

Z95 = 1.959963984540054
DIVERGED_FACTOR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an evaluation found; ``tasks`` keeps every task's score, so that models can be compared in pairs.

    Attributes:
        step: Outer step of the judged parameters.
        split: Which tasks.
        task_set: Identity of the fixed tasks.
        facts: Ways, shots, queries, normalisation: what a figure means.
        scores: Per-task scores.
        decides: The metric that comes first, and whose interval is called ``ci95``.
        unsent_events: How many events of the run MLflow does not have, this report perhaps among them.
    """

    step: int
    split: str
    task_set: str
    facts: Mapping[str, Any]
    scores: TaskScores
    decides: str | None = None
    unsent_events: int = 0

    @property
    def num_tasks(self) -> int:
        return len(self.scores.support_loss)

    @property
    def num_steps(self) -> int:
        return int(self.scores.support_loss.shape[1]) - 1

    def at(self, metric: str, steps: int | None = None) -> tuple[float, float]:
        """Mean and half width of the 95 % interval after ``steps`` inner steps (all of them by default)."""
        return mean_ci95(self.scores.query[metric][:, self.num_steps if steps is None else steps])

    def one_query(self, metric: str) -> tuple[float, float]:
        """The same with each query predicted alone."""
        return mean_ci95(self.scores.one_query[metric])

    def support_loss(self, steps: int) -> float:
        return float(self.scores.support_loss[:, steps].mean(dtype=np.float64))

    @property
    def diverged(self) -> int:
        return int(diverged(self.scores.query["loss"]).sum())

    def to_json(self) -> dict[str, Any]:
        """The report as ``metadist evaluate --json`` prints it."""
        names = sorted(self.scores.query, key=lambda name: (name != self.decides, name == "loss"))
        return {
            "checkpoint": self.step,
            "split": self.split,
            "num_tasks": self.num_tasks,
            **self.facts,
            "task_set": self.task_set,
            "diverged_tasks": self.diverged,
            "one_query_at_a_time": _figures({name: self.one_query(name) for name in names}),
            "by_inner_steps": {
                str(k): _figures({name: self.at(name, k) for name in names}) for k in range(self.num_steps + 1)
            },
        }

    def metrics(self, prefix: str) -> dict[str, float]:
        """The report as journal metrics: ``validation/accuracy``, ``validation/accuracy_steps_1``, ..."""
        flat: dict[str, float] = {}
        for name in self.scores.query:
            flat[f"{prefix}/{name}"], flat[f"{prefix}/{name}_ci95"] = self.at(name)
            flat[f"{prefix}/{name}_one_query"] = self.one_query(name)[0]
            flat.update({f"{prefix}/{name}_steps_{k}": self.at(name, k)[0] for k in range(self.num_steps + 1)})
        flat[f"{prefix}/support_loss_before"] = self.support_loss(0)
        flat[f"{prefix}/support_loss_after"] = self.support_loss(self.num_steps)
        flat[f"{prefix}/diverged_tasks"] = float(self.diverged)
        return flat


def evaluate(
    group: WorkerGroup,
    flat: NDArray[np.float32],
    source: TaskSource,
    config: RunConfig,
    *,
    split: str,
    step: int,
    num_tasks: int,
) -> Report:
    """Judge parameters (P,) on the first ``num_tasks`` fixed tasks of ``split``, shard by shard on ``group``."""
    shard_size = config.outer.shard_size or 1
    plan = plan_evaluation(split, step, num_tasks=num_tasks, shard_size=shard_size)
    parts: list[TaskScores] = list(group.map_ordered(step, flat, plan))
    shots, queries = source.fixed_spec.shots, source.fixed_spec.queries
    facts: dict[str, Any] = {"ways": source.spec.outputs} if source.spec.kind == "classes" else {}
    facts.update(shots=shots, queries=queries, normalisation=config.algorithm.normalisation)
    return Report(
        step=step,
        split=split,
        task_set=source.task_set(split, num_tasks),
        facts=facts,
        decides=config.evaluation.metric,
        scores=TaskScores(
            {name: np.concatenate([part.query[name] for part in parts]) for name in parts[0].query},
            np.concatenate([part.support_loss for part in parts]),
            {name: np.concatenate([part.one_query[name] for part in parts]) for name in parts[0].one_query},
        ),
    )


def mean_ci95(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Mean over tasks and half width of its normal 95 % interval; nan where a task is not finite.

    >>> mean_ci95(np.array([1.0, 1.0]))
    (1.0, 0.0)
    """
    exact = values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = exact.std(ddof=1) if len(exact) > 1 else 0.0
        return float(exact.mean()), float(Z95 * spread / np.sqrt(len(exact)))


def diverged(loss: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tasks (N,) whose query loss (N, K + 1) adaptation made ten times worse than one, or than it was."""
    last, first = loss[:, -1].astype(np.float64), loss[:, 0].astype(np.float64)
    return ~np.isfinite(last) | (last > DIVERGED_FACTOR * np.maximum(first, 1.0))


def better(new: float, old: float, *, maximise: bool) -> bool:
    """Whether ``new`` beats ``old``; any figure beats NaN."""
    if math.isnan(old):
        return not math.isnan(new)
    return new > old if maximise else new < old


def save_report(report: Report, folder: Path) -> Path:
    """Write the per-task scores ``tasks.npz`` into ``folder``, then ``report.json``: each whole or not at all.

    Raises:
        SaveFailed: the disk did not take them.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    named = {f"query/{name}": value for name, value in report.scores.query.items()}
    named |= {f"one_query/{name}": value for name, value in report.scores.one_query.items()}
    scores = io.BytesIO()
    np.savez(scores, allow_pickle=False, support_loss=report.scores.support_loss, **named)
    write_atomically(folder / "tasks.npz", scores.getvalue())
    path = folder / "report.json"
    write_atomically(path, json.dumps(report.to_json(), indent=1))
    return path


def _figures(values: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Means by name, with the interval of the first (the deciding) metric as ``ci95`` and the others' beside them."""
    names = list(values)
    out: dict[str, Any] = {}
    for name in names:
        mean, half = values[name]
        out[name] = mean if np.isfinite(mean) else None
        out["ci95" if name == names[0] else f"{name}_ci95"] = half if np.isfinite(half) else None
    return out
