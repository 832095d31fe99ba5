"""The command line. Nothing heavy is imported before a command runs, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from typing import Annotated, Any

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
    from metadist.errors import EXIT_BUG, EXIT_CTRL_C

    try:
        sys.exit(app(prog_name="metadist", standalone_mode=False))
    except typer.Abort:
        sys.exit(EXIT_CTRL_C)
    except Exception as error:
        if isinstance(error, typer.BadParameter.__bases__):  # click's UsageError, wherever this typer has its click
            sys.exit(_called_wrongly(error))
        # anything that got here is ours to mend: show where it happened
        import traceback

        from metadist.commands.output import is_debugged

        if is_debugged():
            raise
        traceback.print_exc()
        sys.stderr.write("error: this is a bug of metadist; the traceback above says where\n")
        sys.exit(EXIT_BUG)


def _called_wrongly(error: Any) -> int:
    """Say it in one line with where to look; without any argument at all, print the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        message = " ".join(error.format_message().split()).rstrip(".")
        where = f" (`{error.ctx.command_path} --help` says what there is)" if error.ctx is not None else ""
        sys.stderr.write(f"error: {message}{where}\n")
    return int(error.exit_code)
