"""``metadist sync``: send MLflow what it has not got of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metadist.commands.output import emit, guarded
from metadist.commands.train import AsJson
from metadist.tracking.secret import without_password

if TYPE_CHECKING:
    from metadist.tracking import SyncReport


def sync(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    uri: Annotated[str | None, typer.Option(help="Tracking URI; default where the run is mirrored to.")] = None,
    json: AsJson = False,
) -> None:
    """Send the rest of a run's journal to MLflow; doing it twice changes nothing."""
    with guarded():
        report = _sent(run_dir.absolute(), uri)

        def lines() -> Iterator[str]:
            refused = f", {report.num_refused} were refused" if report.num_refused else ""
            yield f"{report.num_sent} events sent to {without_password(report.uri)}, run {report.run_id}{refused}"

        emit({"run_dir": str(run_dir), **asdict(report)}, as_json=json, lines=lines)


def _sent(run_dir: Path, uri: str | None) -> SyncReport:
    """Send it to ``uri``, which is where the run is tracked from then on, or to where it is tracked."""
    from metadist.errors import UsageError
    from metadist.folder.run_folder import is_used, move_tracking, read_config
    from metadist.tracking import TrackingUriRefused, resolve_tracking_uri, sync, tracking_uri_of

    if uri is not None:
        try:
            uri = resolve_tracking_uri(uri)
        except TrackingUriRefused as error:
            raise UsageError(str(error)) from None
    if not is_used(run_dir):  # a run that never began, or no run folder: which `sync` says
        return sync(run_dir, uri=uri)
    settings = read_config(run_dir).tracking
    report = sync(run_dir, uri=uri or tracking_uri_of(run_dir, settings.uri), experiment=settings.experiment)
    if uri is not None:
        move_tracking(run_dir, uri)
    return report
