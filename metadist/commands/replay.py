"""``metadist replay``: run one shard of a run again, here, where a debugger works."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from metadist.commands.output import emit, guarded, is_debugged, say
from metadist.commands.train import AsJson


def replay(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    step: Annotated[int, typer.Option(min=0)],
    shard: Annotated[int, typer.Option(min=0)],
    split: Annotated[str, typer.Option(help="train, or the split of an evaluation after that step.")] = "train",
    json: AsJson = False,
) -> None:
    """Recompute a shard in this process, from the last checkpoint before its step.

    ``python -m pdb -c continue -m metadist replay ...`` stops where it raises; so does a ``breakpoint()``.
    """
    with guarded():
        from metadist.replay import replay_shard

        with _told(step, shard):
            result = replay_shard(run_dir, step=step, shard=shard, split=split, on_message=say)

        def lines() -> Iterator[str]:
            for key, value in result.items():
                yield f"{key:<16} {value}"

        emit(result, as_json=json, lines=lines)


@contextmanager
def _told(step: int, shard: int) -> Iterator[None]:
    """An error of the user's own code with its traceback: it is what was looked for, and no bug of ours."""
    from metadist.errors import EXIT_BUG
    from metadist.failures import ShardError, exit_code_of

    try:
        yield
    except Exception as error:
        if is_debugged() or exit_code_of(error) != EXIT_BUG:
            raise
        say("".join(traceback.format_exception(error)).rstrip())
        raise ShardError(f"reproduced: shard {shard} of step {step} raised {type(error).__name__}: {error}") from error
