"""The composition root behind both the command line and Python: train a recipe, load a run, judge it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import cluster
from cluster import Event
from metadist import checkpoint, numerics, run_folder
from metadist.checkpoint import Checkpoint
from metadist.config import RunConfig
from metadist.errors import ConfigError, MetadistError
from metadist.failures import translated
from metadist.groups import Place, chosen, open_group, place_of
from metadist.interruption import watched
from metadist.outer import Outer
from metadist.ownership import Owner, owned
from metadist.parameters import flatten, sha256
from metadist.pictures import draw
from metadist.plan_line import plan_line
from metadist.run_reader import Run, evaluate_run, load_run
from metadist.settings import fingerprint, flat, load_config, numbers_of
from metadist.sources import build_source
from metadist.stores import locate
from metadist.tracking import Journal, JournalWriteFailed, MlflowMirror, check_reachable, resolve_tracking_uri
from metadist.trainer import Observer, Outcome, Trainer
from metadist.version import __version__
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
    with owned(folder, config.checkpoint.lease_s) as owner:
        return _train_owned(config, owner, resume, accept_numerics, heard)


def _train_owned(config: RunConfig, owner: Owner, resume: bool, accept: bool, observer: Observer) -> Run:
    begun, folder = time.perf_counter(), owner.run_dir
    resuming = resume and run_folder.is_used(folder)
    if not resuming:
        run_folder.refuse_used(folder, config)
    location = locate(config, observer.on_message)
    parts = _checked_parts(config, location)
    uri = resolve_tracking_uri(config.tracking.uri)
    if config.tracking.required:
        check_reachable(uri, timeout=5)
    with translated(folder), place_of(config) as place:
        parts = replace(parts, config=_on_device(config, place.device))
        record = numerics.record(place.device, config.engine.threads)
        data = parts.source.fingerprint
        notes = run_folder.check_resume(folder, config, record, data, accept_numerics=accept) if resuming else []
        saved = checkpoint.newest_whole(folder, observer.on_message) if resuming else None
        observer.on_message(plan_line(parts.config, parts, place.num_workers))
        if resume:
            where = f"resuming {folder} from step {saved.state.step}" if saved else f"starting afresh in {folder}"
            observer.on_message(where)
        with Journal(folder) as journal:
            _open_journal(journal, parts, folder, location, record, saved)
            for note in notes:
                journal.event("accepted numerics", message=note)
            mirror = MlflowMirror(
                folder,
                uri=uri,
                experiment=config.tracking.experiment,
                run_name=folder.name,
                on_message=observer.on_message,
            )
            try:
                mirror.start()
                outcome = _run(parts, place, journal, owner, location, saved, observer)
                journal.status("FINISHED" if outcome.exit_code is None else "KILLED")
            except BaseException as error:
                if isinstance(error, Exception):
                    owner.check()  # who hung and lost the folder may fail in many ways: this is their cause
                with suppress(JournalWriteFailed):  # the cause may be that very disk; it is what is told
                    journal.status("FAILED")
                raise
            finally:
                unsent = mirror.close(timeout=DRAIN_S)
                if unsent:
                    why = f" ({mirror.last_error})" if mirror.last_error else ""
                    observer.on_message(f"{unsent} events have not reached MLflow{why}: metadist sync {folder}")
    summary = _summary(parts.config, folder, mirror, outcome, time.perf_counter() - begun, place.num_workers)
    return Run(folder, parts.config, {**summary, "unsent_events": unsent, "exit_code": outcome.exit_code})


def _run(
    parts: Assembly,
    place: Place,
    journal: Journal,
    owner: Owner,
    location: str | None,
    saved: Checkpoint | None,
    observer: Observer,
) -> Outcome:
    """Train on a group from the checkpoint, or from the start; then draw the run's pictures."""

    def on_event(event: Event) -> None:
        journal.event(event.kind, **dict(event.detail))

    folder = owner.run_dir
    outer = Outer(parts.config.outer, parts.layout, flatten(parts.algorithm.init(parts.config.seed)))
    factory = factory_of(parts, location, place.device, folder)
    with watched() as interruption, open_group(parts.config, place, factory, on_event) as group:
        trainer = Trainer(parts, group, outer, journal, folder, observer, check_owner=owner.check)
        start = trainer.restore(saved) if saved else 0
        outcome = trainer.run(start, interruption)
    for picture in draw(folder):
        journal.artifact(picture, folder="plots")
    journal.artifact(folder / run_folder.RESOLVED)
    return outcome


def _on_device(config: RunConfig, device: str) -> RunConfig:
    return config.model_copy(update={"engine": config.engine.model_copy(update={"device": device})})


def _checked_parts(config: RunConfig, location: str | None) -> Assembly:
    """Build everything once in this process, so that mistakes show before any worker starts."""
    numerics.pin(config.engine.threads)
    if config.engine.compile == "on" and not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        raise ConfigError(
            "engine.compile is on, and this machine has no C++ compiler; install g++ or set engine.compile=off"
        )
    source = build_source(config, location)
    parts = assemble(config, source)
    source.check("train", fixed=False)
    source.check("validation", fixed=True)
    check_model(parts)
    Outer(config.outer, parts.layout, np.zeros(parts.layout.size, np.float32))  # refuses options it does not know
    return parts


def _open_journal(
    journal: Journal,
    parts: Assembly,
    folder: Path,
    location: str | None,
    record: Mapping[str, Any],
    saved: Checkpoint | None,
) -> None:
    config = parts.config
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
    config: RunConfig, folder: Path, mirror: MlflowMirror, outcome: Outcome, wall_s: float, workers: int
) -> dict[str, Any]:
    clock, best = outcome.clock, outcome.best
    return {
        "run_dir": str(folder),
        "run_id": mirror.run_id,
        "steps": outcome.step,
        "params_sha256": sha256(outcome.flat),
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
    parts = _checked_parts(config, locate(config, on_message))
    place = chosen(config, {"CPU": float(os.cpu_count() or 1)})
    return {
        "plan": plan_line(_on_device(config, place.device), parts, place.num_workers),
        "bytes_per_shard": 4 * parts.layout.size,
        "fingerprint": fingerprint(numbers_of(config)),
        **leaf_lists(parts),
    }


def default_run_dir(recipe: str | Path | Mapping[str, Any] | RunConfig) -> Path:
    """``runs/<recipe>-<local time>`` in the working directory."""
    name = Path(recipe).stem if isinstance(recipe, str | Path) else "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
