"""What a run's folder and journal are told before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metadist.checkpoint import State
from metadist.config.fingerprint import fingerprint, flat, numbers_of
from metadist.folder import run_folder
from metadist.folder.failed import forget
from metadist.launch.resume import Start
from metadist.sources import fitted_digest, left_out, told_left_out
from metadist.tracking import Event, Journal, read_events, undamaged
from metadist.trainer import Observer
from metadist.version import __version__
from metadist.worker import Assembly


def open_journal(
    journal: Journal,
    parts: Assembly,
    folder: Path,
    location: str | None,
    record: Mapping[str, Any],
    start: Start,
) -> None:
    """Begin the journal of a run that starts, or cut it back to the checkpoint that a run goes on from, and write what
    the numbers depend on into the folder."""
    config = parts.config
    if start.saved is not None:
        judged = evaluations_behind(journal.path, start.saved.state)
        journal.truncate_to(start.saved.state.journal_offset)
        journal.event("resumed", step=start.step)
        for event in judged:
            journal.append(event.kind, event.data, step=event.step)
    elif run_folder.is_used(folder):
        journal.truncate_to(0)
    forget(folder)
    journal.status("RUNNING")
    extra = {
        "location": location,
        "version": __version__,
        "accepted": start.accepted,
        "transforms": fitted_digest(parts.source),
    }
    run_folder.begin(folder, config, record, parts.source.fingerprint, extra)
    tags = {
        "metadist.version": __version__,
        "metadist.fingerprint": fingerprint(numbers_of(config)),
        **{f"numerics.{name}": str(value) for name, value in record.items()},
    }
    start.tell(journal)
    if start.saved is None or start.accepted:
        journal.tags(tags)
    if start.saved is None:
        journal.params(flat(run_folder.readable(config)))
        name = config.tasks.path or config.tasks.name or config.tasks.source
        journal.dataset(name=str(name), digest=parts.source.fingerprint[:32], source=str(location or name))


def evaluations_behind(path: Path, state: State) -> list[Event]:
    """What was journalled behind a checkpoint of steps that stay: that they were judged (`metadist evaluate`)."""
    events = undamaged(read_events(path, state.journal_offset))
    kinds, last = ("metrics", "artifact"), state.step
    return [event for event in events if event.kind in kinds and event.step is not None and event.step <= last]


def tell_left_out(parts: Assembly, journal: Journal, observer: Observer) -> None:
    """Say which groups no task is drawn from, since they are too small."""
    training = [source for source, _ in parts.training]
    for split, names in (
        ("train", left_out(training, "train", fixed=False)),
        ("validation", left_out([parts.source], "validation", fixed=True)),
    ):
        if names:
            journal.event("groups_left_out", split=split, count=len(names), names=list(names))
            observer.on_message(told_left_out(names, split))
