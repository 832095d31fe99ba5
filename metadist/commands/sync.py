"""``metadist sync``: send MLflow what it has not got of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from metadist.commands.output import emit, guarded
from metadist.commands.train import AsJson


def sync(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    uri: Annotated[str | None, typer.Option(help="Tracking URI; default where the run is mirrored to.")] = None,
    json: AsJson = False,
) -> None:
    """Send the rest of a run's journal to MLflow; doing it twice changes nothing."""
    with guarded():
        from metadist.tracking import sync as send

        report = send(run_dir, uri=uri)

        def lines() -> Iterator[str]:
            refused = f", {report.num_refused} were refused" if report.num_refused else ""
            yield f"{report.num_sent} events sent to {report.uri}, run {report.run_id}{refused}"

        emit({"run_dir": str(run_dir), **asdict(report)}, as_json=json, lines=lines)
