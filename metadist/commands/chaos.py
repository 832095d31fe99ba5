"""``metadist chaos``: qualify a machine or a cluster by breaking a run on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from metadist.commands.output import emit, guarded, say
from metadist.commands.train import AsJson, Settings


def chaos(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    kill_workers_every: Annotated[str | None, typer.Option(metavar="5s", help="SIGKILL to workers.")] = None,
    stop_workers_every: Annotated[str | None, typer.Option(metavar="20s", help="SIGSTOP to workers: a hang.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="At most so many workers are hit at one moment.")] = 1,
    kill_driver_at: Annotated[list[int], typer.Option(metavar="STEP", help="SIGKILL to the driver.")] = [],  # noqa: B006
    tracking_outage: Annotated[str | None, typer.Option(metavar="10s", help="MLflow hangs for so long.")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments and the victims.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the two runs.")] = Path("chaos"),
    set: Settings = [],  # noqa: B006  # typer reads the default
    json: AsJson = False,
) -> None:
    """Train a recipe undisturbed and disturbed, and compare the bits."""
    with guarded():
        from metadist.chaos import Storm, qualify
        from metadist.config.load import load_config, parse_overrides
        from metadist.errors import GateRefused, UsageError

        overrides = parse_overrides(set)
        config = load_config(recipe, overrides)  # mistakes show before anything is started
        if config.cluster.backend == "local" and (kill_workers_every or stop_workers_every):
            raise UsageError("cluster.backend is local: there are no workers to hit; --set cluster.backend=ray")
        storm = Storm(
            kill_workers_every=seconds(kill_workers_every),
            stop_workers_every=seconds(stop_workers_every),
            at_once=at_once,
            kill_driver_at=tuple(kill_driver_at),
            tracking_outage_s=seconds(tracking_outage),
            seed=seed,
        )
        verdict = qualify(recipe, overrides, storm, out, say)

        def lines() -> Iterator[str]:
            bits = "equal" if verdict.equal else "DIFFERENT"
            yield f"bits       {bits}: {verdict.undisturbed[:16]} {verdict.disturbed[:16]}"
            yield (
                f"blows      {verdict.workers_killed} workers killed, {verdict.workers_stopped} stopped, "
                f"driver killed {verdict.driver_kills} times"
            )
            yield f"journal    {verdict.workers_lost} workers lost, {verdict.shards_reissued} shards issued again"
            yield f"tracking   {verdict.unsent_events} events did not arrive"
            yield f"time       {verdict.wall_s:.0f} s undisturbed, {verdict.disturbed_wall_s:.0f} s in the storm"

        emit({**asdict(verdict), "was_hit": verdict.was_hit}, as_json=json, lines=lines)
        if not verdict.equal:
            raise GateRefused(f"the storm changed the bits; the two runs are in {out}")
        if not verdict.was_hit and (storm.kill_workers_every or storm.stop_workers_every or storm.kill_driver_at):
            raise UsageError("the run was over before anything hit it, which shows nothing: more steps, or more blows")


def seconds(text: str | None) -> float | None:
    """``"5s"``, ``"0.5"`` or ``"2m"`` in seconds.

    >>> seconds("5s"), seconds("0.5"), seconds("2m"), seconds(None)
    (5.0, 0.5, 120.0, None)
    """
    from metadist.errors import UsageError

    if text is None:
        return None
    scale = {"s": 1.0, "m": 60.0}.get(text[-1:])
    try:
        value = float(text if scale is None else text[:-1]) * (scale or 1.0)
    except ValueError:
        raise UsageError(f"{text!r} is not a time; write 5s or 2m") from None
    if value <= 0:
        raise UsageError(f"a time must be above zero; got {text!r}")
    return value
