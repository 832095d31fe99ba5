"""``metadist register``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, figure, guarded, progress, say
from metadist.commands.train import AsJson
from metadist.tracking.secret import without_password


def register(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    name: Annotated[str, typer.Option(help="The registered model.")],
    alias: Annotated[str, typer.Option(help="Points at the new version.")] = "candidate",
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    num_tasks: Annotated[
        int | None, typer.Option(min=2, help="Tasks of its report. Default: evaluation.num_tasks.")
    ] = None,
    allow_transductive: Annotated[bool, typer.Option(help="Also a model that is worse one query at a time.")] = False,
    json: AsJson = False,
) -> None:
    """Register a run's model in MLflow, with a report computed by the very function that is served."""
    with guarded():
        from metadist.registry import register as publish
        from metadist.run import load_run

        saved = load_run(run_dir).checkpoint(checkpoint)
        say(f"checkpoint {saved.state.step} ({checkpoint}) of {run_dir}")
        count = num_tasks or load_run(run_dir).config.evaluation.num_tasks
        with progress(count, "task") as advance:
            result = publish(
                run_dir,
                saved,
                name=name,
                alias=alias,
                num_tasks=num_tasks,
                allow_transductive=allow_transductive,
                on_message=say,
                on_task=lambda done, total: advance(done, ""),
            )
        emit(result, as_json=json, lines=lambda: _lines(result))


def alone(report: Mapping[str, Any]) -> str:
    """One query at a time, beside the same queries in one pass where these are not all of a task's."""
    metric, found = next(iter(report["one_query_at_a_time"])), report.get("one_query")
    text = f"one query at a time {figure(metric, report['one_query_at_a_time'])}"
    if found is None:  # an evaluation during training asks them all
        return text
    value = found["in_one_pass"][metric]
    together = f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.4g}"
    return f"{text}, the same {found['queries_a_task']} queries a task in one pass {together}"


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    report = result["report"]
    metric = next(iter(report["one_query_at_a_time"]))
    steps, figures = next(reversed(report["by_inner_steps"].items()))
    made = "" if result["is_new"] else " (it was registered before)"
    where = without_password(result["tracking_uri"])
    yield f"model      {result['model_uri']}, version {result['version']}{made}, in {where}"
    yield f"bundle     {result['bundle'][:16]} in {result['bundle_dir']}"
    yield (
        f"report     {figure(metric, figures)} after {steps} inner steps, all queries ({report['num_tasks']} "
        f"{report['split']} tasks, {report['normalisation']})"
    )
    yield f"alone      {alone(report)}"
    yield f"next       metadist describe {result['model_uri']}"
