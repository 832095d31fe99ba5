"""``metadist replay``: run one shard of a run again, here, where a debugger works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from metadist.commands.output import emit, guarded, say
from metadist.commands.train import AsJson


def replay(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    step: Annotated[int, typer.Option(min=0)],
    shard: Annotated[int, typer.Option(min=0)],
    json: AsJson = False,
) -> None:
    """Recompute a shard in this process, from the last checkpoint before its step."""
    with guarded():
        from metadist.replay import replay_shard

        result = replay_shard(run_dir, step=step, shard=shard, on_message=say)

        def lines() -> Iterator[str]:
            for key, value in result.items():
                yield f"{key:<16} {value}"

        emit(result, as_json=json, lines=lines)
