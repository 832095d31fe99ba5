"""A run folder, read: its configuration, metrics, checkpoints and parts, and judging it on fixed tasks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster import WorkerGroup
from metadist import checkpoint, numerics
from metadist.algorithms import MetaAlgorithm
from metadist.checkpoint import Checkpoint
from metadist.config import RunConfig
from metadist.errors import CheckpointDamaged, ConfigError, RunFolderBusy, UsageError
from metadist.evaluate import Report, evaluate, save_report
from metadist.failures import translated
from metadist.folder import run_folder
from metadist.folder.ownership import owned
from metadist.folder.reports import refuse_other_settings, report_folder, settings_of, suffix_of
from metadist.launch.groups import open_group, place_of
from metadist.parameters import MetaParams, layout_of
from metadist.sources import ParquetSource, SinusoidSource, fitted_digest, left_out, told_left_out
from metadist.tasks import TaskSource
from metadist.tracking import Journal, MlflowMirror, read_events, tracking_uri_of
from metadist.worker import Assembly, assemble_at, factory_of

MIRROR_S = 30.0
SPLITS = ("train", "validation", "test")  # of tasks that need no store


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
    def algorithm(self) -> MetaAlgorithm:
        """The algorithm as pure functions of one task."""
        return self.parts().algorithm

    def metrics(self) -> list[dict[str, Any]]:
        """Journalled metrics, one dict a line with its ``step``."""
        return [{"step": e.step, **e.data} for e in read_events(self.run_dir) if e.kind == "metrics"]

    def parts(self) -> Assembly:
        """Source, model and algorithm, built anew from the configuration."""
        location = run_folder.read_fingerprint(self.run_dir)["location"]
        return assemble_at(self.config, location)

    def evaluate(self, **options: Any) -> Report:
        """See `evaluate_run`."""
        return evaluate_run(self.run_dir, **options)


def load_run(run_dir: str | Path) -> Run:
    """Read a run folder."""
    folder = Path(run_dir).absolute()
    return Run(folder, run_folder.read_config(folder))


def find_checkpoint(run_dir: Path, which: str | int) -> Checkpoint:
    """``"best"`` (by validation), ``"last"`` or the step of a checkpoint.

    Raises:
        CheckpointDamaged: there is none, or it is not whole; nothing falls back here, since a person asked for it.
        UsageError: ``which`` is none of these.
    """
    steps = checkpoint.steps(run_dir)
    if not steps:
        raise CheckpointDamaged(f"{run_dir} has no checkpoint yet")
    names = ", ".join(map(str, steps))
    if which not in ("best", "last") and (not str(which).isdigit() or int(which) not in steps):
        hint = _hint(str(which), ("best", "last"))
        raise UsageError(f"{run_dir} has no checkpoint {which!r}{hint}; use best, last or one of the steps {names}")
    try:
        found = checkpoint.load_checkpoint(run_dir, steps[-1] if which in ("best", "last") else int(which))
        best = found.state.best if which == "best" else None
        return found if best is None else checkpoint.load_checkpoint(run_dir, best.step)
    except CheckpointDamaged as error:
        cure = "train --resume falls back to an older one and computes it again"
        raise CheckpointDamaged(f"{error}; choose another of the steps {names} with --checkpoint, or {cure}") from None


@contextmanager
def opened(run: Run, overrides: Mapping[str, Any] | None = None) -> Iterator[tuple[Assembly, WorkerGroup]]:
    """The parts of a run and a group that can judge it, under `judged_config`."""
    config = run_folder.read_config(run.run_dir, overrides)
    stored = run_folder.read_fingerprint(run.run_dir)
    numerics.pin(config.engine.threads)
    parts = assemble_at(config, stored["location"])
    run_folder.check_fitted(run.run_dir, fitted_digest(parts.source))
    with translated(run.run_dir), place_of(config) as place:
        factory = factory_of(parts, stored["location"], place.device, run.run_dir)
        with open_group(config, place, factory, lambda event: None) as group:
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
    """Judge a run on fixed tasks of ``split``; the report is kept in the run folder, under a name of its own for each
    of the settings that it is judged by (`metadist.folder.reports`).

    Raises:
        UsageError: ``set`` holds more than where and on what it is judged; there is no such split or checkpoint.
    """
    run = load_run(run_dir)
    settings = settings_of(judged_config(run.run_dir, set), num_tasks)
    suffix = suffix_of(settings, settings_of(run.config))
    saved = run.checkpoint(which)
    on_message(f"checkpoint {saved.state.step} ({which}) of {run.run_dir}")
    changed = run_folder.changed_code(run.run_dir, run.config)
    if changed:
        on_message(
            f"warning: {', '.join(changed)} changed since the run was trained; this judges its weights in new code"
        )
    with opened(run, set) as (parts, group):
        _check_fits(saved, parts)
        _check_split(parts.source, split)
        parts.source.check(split, fixed=True)
        small = left_out([parts.source], split, fixed=True)
        if small:
            on_message(told_left_out(small, split))
        count, step = settings["num_tasks"], saved.state.step
        report = evaluate(group, saved.flat, parts.source, parts.config, split=split, step=step, num_tasks=count)
    report = replace(report, facts={**report.facts, "evaluation": settings})
    path = save_report(report, report_folder(run.run_dir, split, step, suffix))
    return replace(report, unsent_events=_tell(run, report, path, f"{split}{suffix}", on_message))


def judged_config(run_dir: Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration of a run as it is judged; overrides may change where, and on what.

    Raises:
        UsageError: they change more.
    """
    refuse_other_settings(overrides or {}, run_folder.read_config(run_dir))
    return run_folder.read_config(run_dir, overrides)


def _check_split(source: TaskSource, split: str) -> None:
    if isinstance(source, ParquetSource | SinusoidSource):  # one of the user's own says itself what it has
        known = tuple(SPLITS if source.store is None else source.store.splits)
        if split not in known:
            hint = _hint(split, known)
            raise UsageError(f"the run's tasks have no split {split!r}{hint}; they have {', '.join(known)}")


def _hint(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _check_fits(saved: Checkpoint, parts: Assembly) -> None:
    other = layout_of(saved.meta).difference(parts.layout)
    if other:
        raise ConfigError(
            f"checkpoint {saved.state.step} has other leaves than this configuration: {'; '.join(other)}; judge it on "
            "the tasks.ways it was trained with, or train what takes any number of ways (protonet, protomaml, r2d2)"
        )


def evaluate_sizes(
    run_dir: str | Path, sizes: Sequence[int] | None = None, *, set: Mapping[str, Any] | None = None, **options: Any
) -> dict[int | None, Report]:
    """A report for each number of support examples (``evaluation.support`` where None), on the same groups and
    queries; where there is none, the one of `evaluate_run` under None.

    Raises:
        ConfigError: the tasks are no groups.
    """
    config = judged_config(Path(run_dir), set)
    wanted = tuple(config.evaluation.support if sizes is None else sizes)
    if not wanted:
        return {None: evaluate_run(run_dir, set=set, **options)}
    found: dict[int | None, Report] = {}
    for size in dict.fromkeys(wanted):
        changed = {**(set or {}), "evaluation.support": list(wanted), "evaluation.shots": size}
        found[size] = evaluate_run(run_dir, set=changed, **options)
    return found


def _tell(run: Run, report: Report, path: Path, prefix: str, on_message: Callable[[str], None]) -> int:
    """Journal a report and mirror it; while a driver is at work there, the report stays a file of the folder. How many
    events MLflow does not have."""
    try:
        with owned(run.run_dir, from_silent=False), Journal(run.run_dir) as journal:
            journal.metrics(report.step, report.metrics(prefix))
            journal.artifact(path, folder=f"evaluation/{path.parent.name}", step=report.step)
            settings = run.config.tracking
            uri = tracking_uri_of(run.run_dir, settings.uri)
            mirror = MlflowMirror(run.run_dir, uri=uri, experiment=settings.experiment, run_name=run.run_dir.name)
            unsent = mirror.start().close(timeout=MIRROR_S)
        if unsent:
            why = f" ({mirror.last_error})" if mirror.last_error else ""
            on_message(f"the report is in {path}; MLflow does not have it yet{why}: metadist sync {run.run_dir}")
    except RunFolderBusy:
        on_message(f"the run is still going on, or its driver is silent: the report is in {path} only")
        return 0
    return unsent
