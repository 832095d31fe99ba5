"""The composition root behind both the command line and Python: train a recipe, load a run, judge it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cluster
from cluster import Event, WorkerGroup
from metadist import __version__, checkpoint, numerics, run_folder
from metadist.checkpoint import Checkpoint
from metadist.config import RunConfig
from metadist.errors import CheckpointDamaged, ConfigError, MetadistError
from metadist.evaluate import Report, evaluate, save_report
from metadist.failures import translated
from metadist.groups import num_workers, open_group, resolved_device
from metadist.interruption import watched
from metadist.outer import Outer
from metadist.parameters import MetaParams, flatten, sha256
from metadist.plan_line import plan_line
from metadist.settings import fingerprint, flat, load_config, numbers_of
from metadist.sources import build_source
from metadist.stores import locate
from metadist.tracking import Journal, MlflowMirror, check_reachable, read_events, resolve_tracking_uri
from metadist.trainer import Observer, Outcome, Trainer
from metadist.worker import Assembly, assemble, check_model, factory_of

if not getattr(cluster, "__metadist__", False):
    raise MetadistError(
        f"another package named 'cluster' shadows ours: {cluster.__file__}; start from another folder or remove it"
    )

DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, read.

    Attributes:
        run_dir: Where it lies.
        config: Its resolved configuration.
        summary: What ``metadist train --json`` prints; empty for a run that was only loaded.
    """

    run_dir: Path
    config: RunConfig
    summary: dict[str, Any] = field(default_factory=dict)

    def checkpoint(self, which: str | int = "best") -> Checkpoint:
        """The ``"best"``, the ``"last"`` or a numbered checkpoint."""
        return find_checkpoint(self.run_dir, which)

    @property
    def params(self) -> MetaParams:
        """The newest meta-parameters."""
        return self.checkpoint("last").meta

    @property
    def algorithm(self) -> Any:
        """The algorithm as pure functions of one task."""
        return self.parts().algorithm

    def metrics(self) -> list[dict[str, Any]]:
        """Journalled metrics, one dict a line with its ``step``."""
        return [{"step": e.step, **e.data} for e in read_events(self.run_dir) if e.kind == "metrics"]

    def parts(self) -> Assembly:
        """Source, model and algorithm, built anew from the configuration."""
        location = run_folder.read_fingerprint(self.run_dir)["location"]
        return assemble(self.config, build_source(self.config, location))

    def evaluate(self, **options: Any) -> Report:
        """See `evaluate_run`."""
        return evaluate_run(self.run_dir, **options)


def train(
    recipe: str | Path | Mapping[str, Any] | RunConfig,
    *,
    set: Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    accept_numerics: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Meta-train a recipe (a shipped name, a YAML path or a mapping) and return the run.

    Args:
        recipe: What to train.
        set: Dotted overrides, ``{"outer.num_steps": 200}``.
        run_dir: The run folder; by default a new one under ``runs/``.
        resume: Continue what the folder holds; start where it holds nothing.
        accept_numerics: Continue although the numerics record differs.
        observer: Hears of steps, evaluations and messages.

    Raises:
        MetadistError: see its subclasses; nothing that was computed is lost.
    """
    config = recipe if isinstance(recipe, RunConfig) else load_config(recipe, set)
    folder = Path(run_dir or default_run_dir(recipe)).absolute()
    heard = observer or Observer()
    with run_folder.owned(folder):
        return _train_owned(config, folder, resume, accept_numerics, heard)


def _train_owned(config: RunConfig, folder: Path, resume: bool, accept: bool, observer: Observer) -> Run:
    begun = time.perf_counter()
    device = resolved_device(config)
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"device": device})})
    numerics.pin(config.engine.threads)
    record = numerics.record(device, config.engine.threads)
    resuming = resume and run_folder.is_used(folder)
    if not resuming:
        run_folder.refuse_used(folder, config)
    location = locate(config, observer.on_message)
    parts = _checked_parts(config, location)
    notes = (
        run_folder.check_resume(folder, config, record, parts.source.fingerprint, accept_numerics=accept)
        if resuming
        else []
    )
    saved = checkpoint.newest_whole(folder, observer.on_message) if resuming else None
    uri = resolve_tracking_uri(config.tracking.uri)
    if config.tracking.required:
        check_reachable(uri, timeout=5)
    outer = Outer(config.outer, parts.layout, flatten(parts.algorithm.init(config.seed)))
    observer.on_message(plan_line(config, parts, num_workers(config)))
    if resume:
        observer.on_message(
            f"resuming {folder} from step {saved.state.step}" if saved else f"starting afresh in {folder}"
        )
    with Journal(folder) as journal:
        _open_journal(journal, config, parts, folder, location, record, saved)
        for note in notes:
            journal.event("accepted numerics", message=note)
        mirror = MlflowMirror(
            folder, uri=uri, experiment=config.tracking.experiment, run_name=folder.name
        ).start()

        def on_event(event: Event) -> None:
            journal.event(event.kind, **dict(event.detail))

        status = "FAILED"
        try:
            with watched() as interruption, translated(folder):
                factory = factory_of(parts, location, device, folder)
                with open_group(config, factory, on_event) as group:
                    trainer = Trainer(parts, group, outer, journal, folder, observer)
                    start = trainer.restore(saved) if saved else 0
                    outcome = trainer.run(start, interruption)
            status = "KILLED" if outcome.exit_code is not None else "FINISHED"
            if (folder / "evaluation" / "validation" / "report.json").exists():
                journal.artifact(folder / "evaluation" / "validation" / "report.json", folder="evaluation")
            journal.artifact(folder / run_folder.RESOLVED)
        finally:
            journal.status(status)
            unsent = mirror.close(timeout=DRAIN_S)
    summary = _summary(config, folder, mirror, outcome, outer, time.perf_counter() - begun, group.num_workers)
    return Run(folder, config, {**summary, "unsent_events": unsent, "exit_code": outcome.exit_code})


def _checked_parts(config: RunConfig, location: str | None) -> Assembly:
    """Build everything once in this process, so that mistakes show before any worker starts."""
    source = build_source(config, location)
    parts = assemble(config, source)
    source.check("train", fixed=False)
    source.check("validation", fixed=True)
    check_model(parts)
    return parts


def _open_journal(
    journal: Journal,
    config: RunConfig,
    parts: Assembly,
    folder: Path,
    location: str | None,
    record: Mapping[str, Any],
    saved: Checkpoint | None,
) -> None:
    if saved is not None:
        journal.truncate_to(saved.state.journal_offset)
        journal.event("resumed", step=saved.state.step)
    elif run_folder.is_used(folder):
        journal.truncate_to(0)
    journal.status("RUNNING")
    if saved is None:
        extra = {"location": location, "version": __version__}
        run_folder.begin(folder, config, record, parts.source.fingerprint, extra)
        journal.params(flat(config))
        journal.tags(
            {
                "metadist.version": __version__,
                "metadist.fingerprint": fingerprint(numbers_of(config)),
                **{f"numerics.{name}": str(value) for name, value in record.items()},
            }
        )
        name = config.tasks.path or config.tasks.name or "tasks"
        journal.dataset(name=str(name), digest=parts.source.fingerprint[:32], source=str(location or name))


def _summary(
    config: RunConfig,
    folder: Path,
    mirror: MlflowMirror,
    outcome: Outcome,
    outer: Outer,
    wall_s: float,
    workers: int,
) -> dict[str, Any]:
    clock, best = outcome.clock, outcome.best
    return {
        "run_dir": str(folder),
        "run_id": mirror.run_id,
        "steps": outcome.step,
        "params_sha256": sha256(outer.params),
        "query_loss": outcome.metrics.get("train/query_loss"),
        **{
            f"query_{name}": outcome.metrics[f"train/query_{name}"]
            for name in ("accuracy", "mse")
            if f"train/query_{name}" in outcome.metrics
        },
        "tasks_per_second": clock.tasks_per_second(config.outer.meta_batch_size),
        "wall_s": wall_s,
        "warmup_s": clock.warmup_s,
        "driver_overhead_fraction": clock.driver_overhead_fraction,
        "actor_busy_fraction": clock.actor_busy_fraction(workers),
        "best": None
        if best is None
        else {"step": best.step, "metric": best.metric, "value": best.value, "ci95": best.ci95},
    }


def load_run(run_dir: str | Path) -> Run:
    """Read a run folder."""
    folder = Path(run_dir).absolute()
    return Run(folder, run_folder.read_config(folder))


def find_checkpoint(run_dir: Path, which: str | int) -> Checkpoint:
    """``"best"`` (by validation), ``"last"`` or the step of a checkpoint.

    Raises:
        CheckpointDamaged: there is none, or it is not whole.
        ConfigError: ``which`` is none of these.
    """
    steps = checkpoint.steps(run_dir)
    if not steps:
        raise CheckpointDamaged(f"{run_dir} has no checkpoint yet")
    if which == "last":
        return checkpoint.load_checkpoint(run_dir, steps[-1])
    if which == "best":
        best = checkpoint.load_checkpoint(run_dir, steps[-1]).state.best
        return checkpoint.load_checkpoint(run_dir, best.step if best is not None else steps[-1])
    if not str(which).isdigit() or int(which) not in steps:
        raise ConfigError(
            f"checkpoint {which!r}: use best, last or one of the steps {', '.join(map(str, steps))}"
        )
    return checkpoint.load_checkpoint(run_dir, int(which))


@contextmanager
def opened(run: Run, overrides: Mapping[str, Any] | None = None) -> Iterator[tuple[Assembly, WorkerGroup]]:
    """The parts of a run and a group that can judge it; overrides may change where, and evaluation's sizes."""
    config = run_folder.read_config(run.run_dir, overrides)
    stored = run_folder.read_fingerprint(run.run_dir)
    numerics.pin(config.engine.threads)
    parts = assemble(config, build_source(config, stored["location"]))
    factory = factory_of(parts, stored["location"], config.engine.device, run.run_dir)
    with translated(run.run_dir), open_group(config, factory, lambda event: None) as group:
        yield parts, group


def evaluate_run(
    run_dir: str | Path,
    *,
    split: str = "test",
    num_tasks: int | None = None,
    which: str | int = "best",
    set: Mapping[str, Any] | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Report:
    """Judge a run on fixed tasks of ``split``; the report is kept in the run folder."""
    run = load_run(run_dir)
    saved = run.checkpoint(which)
    on_message(f"checkpoint {saved.state.step} ({which}) of {run.run_dir}")
    with opened(run, set) as (parts, group):
        parts.source.check(split, fixed=True)
        count = num_tasks or parts.config.evaluation.num_tasks
        report = evaluate(
            group, saved.flat, parts.source, parts.config, split=split, step=saved.state.step, num_tasks=count
        )
    save_report(report, run.run_dir / "evaluation" / f"{split}-{saved.state.step:06d}")
    return report


def default_run_dir(recipe: str | Path | Mapping[str, Any] | RunConfig) -> Path:
    """``runs/<recipe>-<local time>`` in the working directory."""
    name = Path(recipe).stem if isinstance(recipe, str | Path) else "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
