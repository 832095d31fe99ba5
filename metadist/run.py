"""The composition root behind both the command line and Python: train a recipe, load a run, judge it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import cluster
from cluster import Event
from metadist import numerics
from metadist.config import RunConfig
from metadist.config.fingerprint import fingerprint, numbers_of
from metadist.config.load import load_config
from metadist.errors import ConfigError, MetadistError, UsageError
from metadist.failures import translated
from metadist.folder import run_folder
from metadist.folder.failed import marked, refuse_failed
from metadist.folder.ownership import Owner, owned
from metadist.interruption import Interruption, watched
from metadist.launch.canary import canary_of
from metadist.launch.groups import Place, chosen, open_group, place_of
from metadist.launch.opening import open_journal, tell_left_out
from metadist.launch.plan_line import plan_line
from metadist.launch.resume import Accept, Start, accept_of, start_of
from metadist.launch.summary import summary_of
from metadist.launch.tracked import tracked
from metadist.launch.trial import try_first_tasks
from metadist.outer import Outer
from metadist.parameters import flatten
from metadist.pictures import draw
from metadist.run_reader import Run, evaluate_run, evaluate_sizes, load_run
from metadist.stores import locate
from metadist.tracking import Journal, MlflowMirror, check_reachable, tracking_uri_of
from metadist.trainer import Observer, Outcome, Trainer
from metadist.worker import Assembly, assemble_at, check_model, factory_of, leaf_lists, parcel_of

__all__ = ["Run", "default_run_dir", "dry_run", "evaluate_run", "evaluate_sizes", "load_run", "train"]

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
    accept: Collection[str] = (),
    retry: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Meta-train a recipe (a shipped name, a YAML path or a mapping) and return the run.

    Args:
        recipe: What to train.
        set: Dotted overrides, ``{"outer.num_steps": 200}``.
        run_dir: The run folder; by default a new one under ``runs/``.
        resume: Continue what the folder holds; start where it holds nothing.
        accept_numerics: Continue although the numerics record differs.
        accept: Continue although these differ: configuration keys, names of the numerics record.
        retry: Resume although the run failed for good; call it once the cause is mended.
        observer: Hears of steps, evaluations and messages.

    Raises:
        MetadistError: see its subclasses; nothing that was computed is lost.
    """
    config = load_config(recipe, set)
    folder = Path(run_dir or default_run_dir(recipe)).absolute()
    heard = observer or Observer()
    if accept and not (resume or retry):
        raise UsageError(f"accept {', '.join(accept)}: only a resume goes on across differences")
    with (
        watched() as interruption,
        run_folder.made(folder),
        owned(folder, config.checkpoint.lease_s) as owner,
    ):
        if not retry and resume:
            refuse_failed(folder)
        accepted = accept_of(accept, accept_numerics)
        return _train_owned(config, owner, resume or retry, accepted, heard, interruption)


def _train_owned(
    config: RunConfig, owner: Owner, resume: bool, accept: Accept, observer: Observer, interruption: Interruption
) -> Run:
    begun, folder = time.perf_counter(), owner.run_dir
    resuming = resume and run_folder.is_used(folder)
    if not resuming:
        run_folder.refuse_used(folder, config)
    location = locate(config, observer.on_message)
    parts = _checked_parts(config, location)
    uri = tracking_uri_of(folder, config.tracking.uri)
    if config.tracking.required:
        check_reachable(uri, timeout=5)
    with translated(folder), place_of(config) as place:
        interruption.watch()
        parts = replace(parts, config=_on_device(config, place.device))
        record = numerics.record(place.device, config.engine.threads)
        start = Start()
        if resuming:
            start = start_of(folder, parts, record, accept, observer.on_message)
        else:
            run_folder.check_names(accept.names, {*numbers_of(config), *record})
        observer.on_message(plan_line(parts.config, parts, place.num_workers))
        if resume:
            fresh = f"starting afresh in {folder}"
            observer.on_message(f"resuming {folder} from step {start.step}" if start.saved else fresh)
        with Journal(folder) as journal:
            open_journal(journal, parts, folder, location, record, start)
            tell_left_out(parts, journal, observer)
            if resuming:
                start.set_aside(folder, observer.on_message)
            mirror = MlflowMirror(
                folder,
                uri=uri,
                experiment=config.tracking.experiment,
                run_name=folder.name,
                on_message=observer.on_message,
            )
            with (
                tracked(journal, mirror, owner.check, observer.on_message, drain_s=DRAIN_S) as tracking,
                marked(folder, owner.check, observer.on_message),
                translated(folder),
            ):
                outcome = _run(parts, place, journal, owner, location, start, observer, interruption)
                tracking.status = "FINISHED" if outcome.exit_code is None else "KILLED"
    summary = summary_of(
        parts.config,
        folder,
        outcome,
        run_id=mirror.run_id,
        unsent_events=tracking.unsent,
        wall_s=time.perf_counter() - begun,
        num_workers=place.num_workers,
    )
    return Run(folder, parts.config, summary)


def _run(
    parts: Assembly,
    place: Place,
    journal: Journal,
    owner: Owner,
    location: str | None,
    start: Start,
    observer: Observer,
    interruption: Interruption,
) -> Outcome:
    """Train on a group from the checkpoint, or from the start; then draw the run's pictures."""

    def on_event(event: Event) -> None:
        journal.event(event.kind, **dict(event.detail))

    folder = owner.run_dir
    outer = Outer(parts.config.outer, parts.layout, flatten(parts.algorithm.init(parts.config.seed)))
    factory = factory_of(parts, location, place.device, folder)
    if factory.parcel:
        size = sum(map(len, factory.parcel.values())) / 2**10
        observer.on_message(f"{len(factory.parcel)} files of your own code ({size:.0f} kB) travel to every worker")
    canary = canary_of(parts, expected=start.canary)
    with open_group(parts.config, place, factory, on_event, canary) as group:
        trainer = Trainer(parts, group, outer, journal, folder, observer, check_owner=owner.check)
        step = trainer.restore(start.saved, start.judged_since) if start.saved else 0
        with interruption.in_training():
            outcome = trainer.run(step, interruption)
    for picture in draw(folder):
        journal.artifact(picture, folder="plots")
    if run_folder.readable(parts.config) is parts.config:
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
    parts = assemble_at(config, location)
    for source, _ in parts.training:
        source.check("train", fixed=False)
    parts.source.check("validation", fixed=True)
    check_model(parts)
    try_first_tasks(parts)
    parcel_of(config)  # refuses what is too large
    Outer(config.outer, parts.layout, np.zeros(parts.layout.size, np.float32))  # refuses options it does not know
    return parts


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
    """Make ``runs/<recipe>-<local time>`` in the working directory, with ``-2`` and so on where it is there already."""
    name = Path(recipe).stem if isinstance(recipe, str | Path) else "run"
    return run_folder.make_new(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
