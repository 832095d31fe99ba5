"""``metadist train``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, figure, guarded, progress, say

Settings = Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a key; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    set: Settings = [],  # noqa: B006  # typer reads the default
    run_dir: Annotated[Path | None, typer.Option(help="The run folder; default a new one under runs/.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue what the run folder holds, else start.")] = False,
    working_dir: Annotated[
        Path | None, typer.Option(help="Send this folder of your own code to every worker, as a whole.")
    ] = None,
    init_from: Annotated[Path | None, typer.Option(help="Start from the newest weights of this run.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything, list the three kinds of weights, stop.")] = False,
    accept_numerics: Annotated[bool, typer.Option(help="Resume although the numerics record differs.")] = False,
    accept: Annotated[
        list[str],
        typer.Option(metavar="KEY[,KEY...]", help="Resume although these keys differ, and say so in the run."),
    ] = [],  # noqa: B006
    retry: Annotated[bool, typer.Option(help="Resume a run that failed for good, once the cause is mended.")] = False,
    json: AsJson = False,
) -> None:
    """Meta-train a recipe."""
    with guarded():
        from metadist.config.load import load_config, parse_overrides
        from metadist.errors import EXIT_TRACKING_INCOMPLETE

        overrides = parse_overrides(set)
        if init_from is not None:
            overrides["model.weights"] = str(init_from)
        if working_dir is not None:
            overrides["working_dir"] = str(working_dir)
        if dry_run:
            _dry_run(load_config(recipe, overrides), json)
            return
        summary = run_with_progress(
            recipe, overrides, run_dir, resume=resume, accept_numerics=accept_numerics, accept=accept, retry=retry
        )
        emit(summary, as_json=json, lines=lambda: _lines(summary))
        if summary["exit_code"] is not None:
            say(f"interrupted after step {summary['steps']}; the checkpoint is whole, --resume goes on")
            raise typer.Exit(summary["exit_code"])
        if summary["unsent_events"]:
            raise typer.Exit(EXIT_TRACKING_INCOMPLETE)


def run_with_progress(recipe: str, overrides: Mapping[str, Any], run_dir: Path | None, **how: Any) -> dict[str, Any]:
    """Train with a progress bar and a line for each evaluation; ``how`` as for `metadist.train`. The run's summary."""
    from metadist.config.load import load_config
    from metadist.evaluate import Report
    from metadist.run import default_run_dir
    from metadist.run import train as run_train
    from metadist.trainer import Observer

    config = load_config(recipe, overrides)
    metric = config.evaluation.metric or "loss"

    def on_evaluate(report: Report) -> None:
        figures = report.to_json()["by_inner_steps"][str(report.num_steps)]
        say(
            f"validation at step {report.step}: {figure(metric, figures)} "
            f"({report.num_tasks} tasks, {_mode(report.to_json())}, {report.num_steps} inner steps)"
        )

    with progress(config.outer.num_steps, "step") as advance:

        def on_step(step: int, metrics: Mapping[str, float]) -> None:
            shown = [("loss", "train/query_loss", ".3f"), ("accuracy", "train/query_accuracy", ".3f")]
            shown.append(("tasks/s", "perf/tasks_per_second", ".0f"))
            advance(step, "  ".join(f"{name} {metrics[key]:{how}}" for name, key, how in shown if key in metrics))

        observer = Observer(on_step=on_step, on_evaluate=on_evaluate, on_message=say)
        run = run_train(config, run_dir=run_dir or default_run_dir(recipe), observer=observer, **how)
    return run.summary


def _dry_run(config: Any, as_json: bool) -> None:
    from metadist.run import dry_run as check

    report = check(config, say)

    def lines() -> Iterator[str]:
        yield report["plan"]
        for kind in (name for name in ("frozen", "meta_learned", "adapted") if name in report):
            yield f"{kind.replace('_', '-')} ({len(report[kind])}): {', '.join(report[kind]) or 'none'}"

    emit(report, as_json=as_json, lines=lines)


def _mode(report: Mapping[str, Any]) -> str:
    return f"{report['normalisation']}, {report['queries']} queries{' a class' if 'ways' in report else ''}"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"run        {summary['run_dir']}"
    yield f"steps      {summary['steps']}   params_sha256 {summary['params_sha256'][:16]}"
    if summary["best"]:
        best = summary["best"]
        shown = figure(best["metric"], {best["metric"]: best["value"], **best})
        yield f"best       step {best['step']}: {shown} (validation)"
    yield (
        f"speed      {summary['tasks_per_second']:.0f} tasks/s, {summary['wall_s']:.0f} s, "
        f"driver overhead {summary['driver_overhead_fraction']:.1%}"
    )
    yield f"next       metadist evaluate {summary['run_dir']}"
