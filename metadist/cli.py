"""The command line. Nothing heavy is imported before a command runs, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from metadist.commands import tasks
from metadist.commands.adapt import adapt
from metadist.commands.chaos import chaos
from metadist.commands.compare import compare
from metadist.commands.describe import describe
from metadist.commands.evaluate import evaluate
from metadist.commands.recipes import config_app, recipes
from metadist.commands.register import register
from metadist.commands.replay import replay
from metadist.commands.sync import sync
from metadist.commands.train import train
from metadist.version import __version__

app = typer.Typer(
    help="Distributed meta-training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (train, evaluate, compare, register, adapt, describe, replay, sync, chaos, recipes):
    app.command()(command)
app.add_typer(tasks.app, name="tasks")
app.add_typer(config_app, name="config")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Distributed meta-training."""


def main() -> None:
    """Entry point of the ``metadist`` command."""
    from metadist.errors import EXIT_BUG

    try:
        app()
    except Exception:  # anything that got here is ours to mend: show where it happened
        import sys
        import traceback

        from metadist.commands.output import is_debugged

        if is_debugged():
            raise
        traceback.print_exc()
        sys.stderr.write("error: this is a bug of metadist; the traceback above says where\n")
        sys.exit(EXIT_BUG)
