"""The outer loop: plan, reduce over the group, step, journal, evaluate, checkpoint. And nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster import Folded, WorkerGroup
from metadist import checkpoint
from metadist.checkpoint import Best, Checkpoint, State
from metadist.diagnostics import warnings_of
from metadist.errors import NonFiniteGradient, SaveFailed
from metadist.evaluate import Report, better, evaluate, save_report
from metadist.interruption import Interruption
from metadist.outer import Outer
from metadist.parameters import sha256
from metadist.shard import own_parts
from metadist.sums import dropped_keys
from metadist.tasks import plan_training
from metadist.tracking import Journal, JournalWriteFailed, SystemMetrics
from metadist.worker import Assembly


@dataclass(slots=True)
class Observer:
    """Who hears of a run while it goes on; the command line draws its progress with these."""

    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None
    on_evaluate: Callable[[Report], None] = lambda report: None
    on_message: Callable[[str], None] = lambda message: None


@dataclass(slots=True)
class Clock:
    """Where the time of this process went, in seconds."""

    warmup_s: float = 0.0
    steps_s: float = 0.0
    busy_any_s: float = 0.0
    busy_total_s: float = 0.0
    timed_steps: int = 0

    def tasks_per_second(self, meta_batch_size: int) -> float:
        """Training tasks over wall time after warm-up; evaluations and checkpoints are not training."""
        return self.timed_steps * meta_batch_size / self.steps_s if self.steps_s else 0.0

    @property
    def driver_overhead_fraction(self) -> float:
        """Share of the steps' wall time in which no actor computed."""
        return max(0.0, 1 - self.busy_any_s / self.steps_s) if self.steps_s else 0.0

    def actor_busy_fraction(self, num_workers: int) -> float:
        """Share of the workers' time in which they computed."""
        return self.busy_total_s / (self.steps_s * num_workers) if self.steps_s else 0.0


@dataclass(slots=True)
class Outcome:
    """How a run ended: its last metrics, its best validation, and the exit code that somebody asked for."""

    step: int
    flat: NDArray[np.float32]
    metrics: dict[str, float]
    best: Best | None
    clock: Clock
    exit_code: int | None


@dataclass(slots=True)
class Trainer:
    """One training run in one process.

    Attributes:
        parts: Source, algorithm and layout.
        group: Where shards run.
        outer: The parameters and their optimizer.
        journal: The truth about the run.
        run_dir: Where checkpoints and reports go.
        observer: Hears of it all.
        check_owner: Raises where another driver has taken the folder over; asked before anything is published.
    """

    parts: Assembly
    group: WorkerGroup
    outer: Outer
    journal: Journal
    run_dir: Path
    observer: Observer = field(default_factory=Observer)
    check_owner: Callable[[], None] = lambda: None
    best: Best | None = None
    clock: Clock = field(default_factory=Clock)
    _warned: set[str] = field(default_factory=set)

    def run(self, start: int, interruption: Interruption) -> Outcome:
        """Train from ``start`` finished steps to ``outer.num_steps``, or until somebody asks to end."""
        config = self.parts.config
        system, metrics, step = SystemMetrics(), dict[str, float](), start
        while step < config.outer.num_steps and interruption.exit_code is None:
            metrics = self._step_or_save(step)
            self.check_owner()
            step += 1
            self.journal.metrics(step, {**metrics, **(system.sample() or {})})
            self.observer.on_step(step, metrics)
            last = step == config.outer.num_steps
            if step % config.evaluation.every_steps == 0 or last:
                self.validate(step)
            if step % config.checkpoint.every_steps == 0 or last:
                self.save(step)
        if interruption.exit_code is not None and step not in checkpoint.steps(self.run_dir):
            self.save(step)
        asked = interruption.exit_code if step < config.outer.num_steps else None  # a whole run is whole
        return Outcome(step, self.outer.params, metrics, self.best, self.clock, asked)

    def _step_or_save(self, step: int) -> dict[str, float]:
        """A step; where it raises, what was reached before it is made whole on disk."""
        try:
            return self.step(step)
        except Exception:
            if step and step not in checkpoint.steps(self.run_dir):
                try:
                    self.save(step)
                except (SaveFailed, JournalWriteFailed) as second:  # the first error is the one to report
                    self.observer.on_message(f"step {step} could not be saved either: {second}")
            raise

    def step(self, step: int) -> dict[str, float]:
        """One outer step; nothing has changed when it raises."""
        settings = self.parts.config.outer
        begun = time.perf_counter()
        plan = plan_training(self.parts.config, step)
        folded = self.group.reduce(step, self.outer.params, plan)
        keys = sum((shard.keys() for shard in plan), ())
        dropped = dropped_keys(folded.metrics)
        if dropped:
            self._tell_dropped(step, dropped)
        if folded.count == 0:
            raise NonFiniteGradient("every task's gradient or loss", step, None, keys, own_parts(self.parts.config))
        gradient = reduced(folded, settings.reduction)
        if not np.isfinite(gradient).all():
            raise NonFiniteGradient("the sum of the meta-gradients", step, None, keys, own_parts(self.parts.config))
        lr = self.outer.lr
        norm = self.outer.step(gradient)
        wall = time.perf_counter() - begun
        rate = self._timed(wall)
        means = {f"train/{name}": total / count for name, (total, count) in folded.metrics.items() if count}
        if settings.on_nonfinite == "drop":
            means["train/dropped_tasks"] = float(len(dropped))
        return {**means, "train/gradient_norm": norm, "train/lr": lr, "perf/tasks_per_second": rate}

    def validate(self, step: int) -> Report:
        """Judge the parameters on validation; the best checkpoint is chosen here."""
        config = self.parts.config
        metric = config.evaluation.metric or "loss"
        num_tasks = config.evaluation.tasks_of("validation")
        report = evaluate(
            self.group, self.outer.params, self.parts.source, config,
            split="validation", step=step, num_tasks=num_tasks,
        )  # fmt: skip
        self.journal.metrics(step, report.metrics("validation"))
        value, half = report.at(metric)
        if self.best is None or better(value, self.best.value, maximise=bool(config.evaluation.maximise)):
            self.best = Best(step=step, metric=metric, value=value, ci95=half)
            save_report(report, self.run_dir / "evaluation" / "validation")
            if step % config.checkpoint.every_steps and step != config.outer.num_steps:
                self.save(step)
        for warning in warnings_of(report, config):
            kind = warning.split("(")[0]
            if kind not in self._warned:
                self._warned.add(kind)
                self._warn(step, warning)
        self.observer.on_evaluate(report)
        return report

    def save(self, step: int) -> None:
        """Make the run whole on disk at ``step``.

        Raises:
            SaveFailed, JournalWriteFailed: the disk did not take it; what was saved before is whole.
        """
        config, layout, flat = self.parts.config, self.parts.layout, self.outer.params
        self.journal.sync()
        state = State(
            step=step,
            journal_offset=self.journal.position(),
            params_sha256=sha256(flat),
            layout=[[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            best=self.best,
        )
        checkpoint.save_checkpoint(
            self.run_dir, state, flat, layout, self.outer.tensors(), before_publish=self.check_owner
        )
        best_step = self.best.step if self.best else None
        for problem in checkpoint.prune(self.run_dir, keep=config.checkpoint.keep, best_step=best_step):
            self._warn(step, problem)

    def _warn(self, step: int, message: str) -> None:
        self.journal.event("warning", step=step, message=message)
        self.observer.on_message(f"warning at step {step}: {message}")

    def restore(self, saved: Checkpoint, judged_since: int = -1) -> int:
        """Continue from a checkpoint; returns its number of finished steps. What was best up to ``judged_since`` was
        judged otherwise than what is to come, and is forgotten."""
        self.outer.load(saved.flat, saved.optimizer, saved.state.step)
        self.best = saved.state.best
        if self.best is not None and self.best.step <= judged_since:
            self._warn(
                saved.state.step,
                f"the best checkpoint ({self.best.step}) was judged in another way than those to come; it is forgotten",
            )
            self.best = None
        return saved.state.step

    def _tell_dropped(self, step: int, keys: tuple[str, ...]) -> None:
        """Journal the tasks that a step does without; say it aloud the first time."""
        self.journal.event("tasks_dropped", step=step, keys=list(keys))
        if "dropped" not in self._warned:
            self._warned.add("dropped")
            self.observer.on_message(
                f"warning at step {step}: {', '.join(keys)} not finite, dropped; each further one is in the journal "
                "and counted in train/dropped_tasks"
            )

    def _timed(self, wall: float) -> float:
        """Book a step's time; the first one, in which workers come up, is the warm-up."""
        timing = self.group.timing()
        if not self.clock.warmup_s:
            self.clock.warmup_s = wall
        else:
            self.clock.steps_s += wall
            self.clock.busy_any_s += timing.busy_any_s
            self.clock.busy_total_s += timing.busy_total_s
            self.clock.timed_steps += 1
        return self.parts.config.outer.meta_batch_size / wall


def reduced(folded: Folded, reduction: str) -> NDArray[np.float32]:
    """The reduced direction (P,): summed in float64, divided once, cast once."""
    divisor = folded.count if reduction == "mean" else 1
    with np.errstate(over="ignore"):  # an infinity is refused by the caller, with a message
        return (folded.vector / divisor).astype(np.float32)
