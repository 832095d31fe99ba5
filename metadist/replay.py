"""Replay: any shard of any step again in this process, with the bits that the worker had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import LocalGroup, Partial
from metadist import checkpoint, numerics
from metadist.config import RunConfig
from metadist.config.wording import did_you_mean
from metadist.errors import UsageError
from metadist.folder.run_folder import read_fingerprint
from metadist.outer import Outer
from metadist.parameters import flatten, sha256
from metadist.run_reader import load_run
from metadist.shard import TaskScores
from metadist.sums import dropped_keys
from metadist.tasks import Shard, plan_evaluation, plan_training
from metadist.trainer import reduced
from metadist.worker import factory_of

SPLITS = ("train", "validation", "test")


def replay_shard(
    run_dir: str | Path, *, step: int, shard: int, split: str = "train", on_message: Callable[[str], None]
) -> dict[str, Any]:
    """Walk from the newest checkpoint at or before ``step`` to it, then run the shard; its failure is raised as is.

    Everything runs in this thread, without workers. A ``split`` other than ``train`` replays a shard of the
    evaluation after ``step`` steps.

    Raises:
        UsageError: the step or the shard is not one of the run's.
    """
    run = load_run(run_dir)
    config, settings = run.config, run.config.outer
    _check_step(config, split, step)
    plan = _plan(config, split, step)
    if shard >= len(plan):
        raise UsageError(f"a step of this run has shards 0..{len(plan) - 1}; asked for {shard}")
    numerics.pin(config.engine.threads)
    parts = run.parts()
    if split != "train":
        parts.source.check(split, fixed=True)
    outer = Outer(settings, parts.layout, flatten(parts.algorithm.init(config.seed)))
    before = [saved for saved in checkpoint.steps(run.run_dir) if saved <= step]
    start = before[-1] if before else 0
    if before:
        saved = checkpoint.load_checkpoint(run.run_dir, start)
        outer.load(saved.flat, saved.optimizer, start)
    on_message(f"replaying from step {start} to step {step}")
    made_from = read_fingerprint(run.run_dir)
    for entry in made_from.get("accepted", []):
        if entry["step"] > start:
            on_message(f"warning: steps before {entry['step']} had another {entry['key']} ({entry['change']})")
    factory = factory_of(parts, made_from["location"], config.engine.device, run.run_dir)
    with LocalGroup(factory) as group:
        for past in range(start, step):
            outer.step(reduced(group.reduce(past, outer.params, _plan(config, "train", past)), settings.reduction))
    result: Partial | TaskScores = factory()(step, outer.params, plan[shard])
    found = {"tasks": list(plan[shard].keys()), "params_sha256": sha256(outer.params)}
    if isinstance(result, TaskScores):
        return {**found, **{name: float(scores[:, -1].mean()) for name, scores in result.query.items()}}
    return {
        **found,
        "gradient_sha256": sha256(result.vector),
        "dropped": list(dropped_keys(result.metrics)),
        **{name: total / count for name, (total, count) in result.metrics.items() if count},
    }


def _check_step(config: RunConfig, split: str, step: int) -> None:
    """Refuse a split that is misspelt, and a step that the run never takes."""
    hint = did_you_mean(split, SPLITS)
    if split not in SPLITS and hint:
        raise UsageError(f"--split {split!r} is not known{hint} (known: {', '.join(SPLITS)})")
    last = config.outer.num_steps - (split == "train")
    if step > last:
        what = "trains" if split == "train" else "is judged after"
        raise UsageError(f"--step {step} is beyond the run, which {what} steps 0..{last}; choose one of these")


def _plan(config: RunConfig, split: str, step: int) -> tuple[Shard, ...]:
    if split == "train":
        return plan_training(config, step)
    num_tasks = config.evaluation.tasks_of(split)
    return plan_evaluation(split, step, num_tasks=num_tasks, shard_size=config.outer.shard_size or 1)
