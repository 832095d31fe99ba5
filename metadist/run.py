"""The composition root behind both the command line and Python: train a recipe, load a run, judge it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cluster
from cluster import Event
from metadist import __version__, checkpoint, numerics, run_folder
from metadist.checkpoint import Checkpoint
from metadist.config import RunConfig
from metadist.errors import MetadistError
from metadist.failures import translated
from metadist.groups import num_workers, open_group, resolved_device
from metadist.interruption import watched
from metadist.outer import Outer
from metadist.parameters import flatten, sha256
from metadist.pictures import draw
from metadist.plan_line import plan_line
from metadist.run_reader import Run, evaluate_run, load_run
from metadist.settings import fingerprint, flat, load_config, numbers_of
from metadist.sources import build_source
from metadist.stores import locate
from metadist.tracking import Journal, MlflowMirror, check_reachable, resolve_tracking_uri
from metadist.trainer import Observer, Outcome, Trainer
from metadist.worker import Assembly, assemble, check_model, factory_of, leaf_lists

__all__ = ["Run", "default_run_dir", "dry_run", "evaluate_run", "load_run", "train"]

if not getattr(cluster, "__metadist__", False):
    raise MetadistError(
        f"another package named 'cluster' shadows ours: {cluster.__file__}; start from another folder or remove it"
    )

DRAIN_S = 30.0


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
    config = _with_device(config)
    device = config.engine.device
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
        mirror = MlflowMirror(folder, uri=uri, experiment=config.tracking.experiment, run_name=folder.name).start()

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
            for picture in draw(folder):
                journal.artifact(picture, folder="plots")
            journal.artifact(folder / run_folder.RESOLVED)
        finally:
            journal.status(status)
            unsent = mirror.close(timeout=DRAIN_S)
    summary = _summary(config, folder, mirror, outcome, outer, time.perf_counter() - begun, group.num_workers)
    return Run(folder, config, {**summary, "unsent_events": unsent, "exit_code": outcome.exit_code})


def _with_device(config: RunConfig) -> RunConfig:
    device = resolved_device(config)
    return config.model_copy(update={"engine": config.engine.model_copy(update={"device": device})})


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


def dry_run(config: RunConfig, on_message: Callable[[str], None]) -> dict[str, Any]:
    """Build and probe everything, run nothing: the plan line and the three kinds of weights by name."""
    numerics.pin(config.engine.threads)
    config = _with_device(config)
    parts = _checked_parts(config, locate(config, on_message))
    return {
        "plan": plan_line(config, parts, num_workers(config)),
        "bytes_per_shard": 4 * parts.layout.size,
        "fingerprint": fingerprint(numbers_of(config)),
        **leaf_lists(parts),
    }


def default_run_dir(recipe: str | Path | Mapping[str, Any] | RunConfig) -> Path:
    """``runs/<recipe>-<local time>`` in the working directory."""
    name = Path(recipe).stem if isinstance(recipe, str | Path) else "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
