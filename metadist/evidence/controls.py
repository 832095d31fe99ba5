"""Evidence, not hope: what a run's tasks give without its meta-learning, on the same fixed tasks and in pairs.

- its own start, without adaptation, and adapted from where the run began (a random or a pretrained network);
- the support set alone (`metadist.evidence.baselines`);
- for regression, a pooled model: the same network trained on the same tasks without adaptation, judged without the
  support set and fine-tuned on it by the run's own inner steps, or by ten where it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metadist.checkpoint import steps
from metadist.config import AlgorithmConfig, RunConfig
from metadist.config.presets import ONE_PASS, OWN
from metadist.config.resolve import resolve
from metadist.errors import DataError
from metadist.evaluate import Report, evaluate
from metadist.evidence.baselines import figures_of, metric_of, run_baselines
from metadist.folder.run_folder import is_used, read_config
from metadist.parameters import flatten
from metadist.run import train
from metadist.run_reader import evaluate_run, load_run, opened

POOLED = Path("baselines") / "pooled"
POOLED_LR, POOLED_STEPS = 0.01, 10  # of fine-tuning, where the run's algorithm has no inner steps of its own


def run_evidence(
    run_dir: Path, report: Report, overrides: Mapping[str, Any], on_message: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Every baseline that fits the run's tasks, by name, with mean, interval and the paired difference.

    The pooled model is trained when it is first asked for, into ``RUN_DIR/baselines/pooled``, and kept.

    Raises:
        UsageError: the report has no metric that baselines are compared by.
    """
    where = {key: value for key, value in overrides.items() if not key.startswith("evaluation.")}
    config = read_config(run_dir, where)
    metric = metric_of(report, config)
    ours = report.scores.query[metric][:, -1].astype(np.float64)
    scores = {}
    if report.num_steps and config.algorithm.family not in ONE_PASS:
        scores["zero inner steps"] = report.scores.query[metric][:, 0]
    start = "pretrained start" if config.model.weights or config.model.name == "encoder" else "random start"
    scores[f"{start}, adapted"] = _from_the_start(run_dir, report, overrides).scores.query[metric][:, -1]
    if "ways" not in report.facts:
        pooled = _pooled(run_dir, config, report, overrides, on_message)
        scores["pooled model"] = pooled.scores.query[metric][:, 0]
        if pooled.num_steps:
            scores["pooled, fine-tuned"] = pooled.scores.query[metric][:, -1]
    found = {name: figures_of(metric, values.astype(np.float64), ours) for name, values in scores.items()}
    return {**found, **run_baselines(run_dir, report, overrides)}


def _from_the_start(run_dir: Path, report: Report, overrides: Mapping[str, Any]) -> Report:
    with opened(load_run(run_dir), overrides) as (parts, group):
        start = flatten(parts.algorithm.init(parts.config.seed))
        return evaluate(
            group, start, parts.source, parts.config, split=report.split, step=0, num_tasks=report.num_tasks
        )


def _pooled(
    run_dir: Path,
    config: RunConfig,
    report: Report,
    overrides: Mapping[str, Any],
    on_message: Callable[[str], None],
) -> Report:
    folder = run_dir / POOLED
    if not is_used(folder):
        on_message(f"training a pooled model for comparison in {folder}")
    if config.outer.num_steps not in steps(folder):  # a resume of what is done would start everything for nothing
        train(pooled_config(config), run_dir=folder, resume=True)  # its remarks would be taken for the run's
    found = evaluate_run(folder, split=report.split, num_tasks=report.num_tasks, set=overrides)
    if found.task_set != report.task_set:
        raise DataError(
            f"{folder} is judged on task set {found.task_set[:12]}, the run on {report.task_set[:12]}; "
            f"remove {folder}, which was made under other settings"
        )
    return found


def pooled_config(config: RunConfig) -> RunConfig:
    """The same network, tasks and budget without adaptation in training; judged after the run's inner steps, or after
    ten where it has none of its own."""
    settings = config.algorithm
    stepless = settings.family in ONE_PASS or settings.family == OWN
    algorithm = AlgorithmConfig(
        name="maml",
        inner_steps=0,
        inner_lr=POOLED_LR if stepless else settings.inner_lr,
        normalisation=settings.normalisation if not settings.normalisation.startswith("per-step") else "inductive",
    )
    steps = POOLED_STEPS if stepless else config.evaluation.inner_steps
    evaluation = config.evaluation.model_copy(update={"inner_steps": steps})
    return resolve(config.model_copy(update={"algorithm": algorithm, "evaluation": evaluation}))
