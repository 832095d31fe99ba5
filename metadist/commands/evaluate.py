"""``metadist evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, figure, guarded, say
from metadist.commands.train import AsJson, Settings


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.")],
    split: Annotated[str, typer.Option(help="Which classes or groups.")] = "test",
    num_tasks: Annotated[int | None, typer.Option(min=2, help="Default: evaluation.num_tasks.")] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    baselines: Annotated[bool, typer.Option(help="Also baselines without meta-learning, on the same tasks.")] = False,
    set: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Judge a run on fixed tasks that it has never seen."""
    with guarded():
        from metadist.evidence import run_evidence
        from metadist.run import evaluate_run
        from metadist.settings import parse_overrides

        overrides = parse_overrides(set)
        report = evaluate_run(
            run_dir, split=split, num_tasks=num_tasks, which=checkpoint, set=overrides, on_message=say
        )
        result = report.to_json()
        if baselines:
            result["baselines"] = run_evidence(run_dir, report, overrides, say)
        emit(result, as_json=json, lines=lambda: _lines(result))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    tasks = f"{report['ways']}-way {report['shots']}-shot" if "ways" in report else f"{report['shots']}-shot"
    yield (
        f"{report['split']}: {report['num_tasks']} {tasks} tasks, {report['queries']} queries"
        f"{' a class' if 'ways' in report else ''}, {report['normalisation']}, checkpoint {report['checkpoint']}, "
        f"task set {report['task_set'][:12]}"
    )
    metric = next(iter(report["one_query_at_a_time"]))
    for steps, figures in report["by_inner_steps"].items():
        yield f"  {steps:>3} inner steps         {figure(metric, figures)}"
    yield f"  one query at a time     {figure(metric, report['one_query_at_a_time'])}"
    if report["diverged_tasks"]:
        yield f"  {report['diverged_tasks']} tasks diverged; they are counted in the means"
    for name, figures in report.get("baselines", {}).items():
        yield f"  {name:<22}  {figure(metric, figures)}{'   <- beats the model' if figures['beats_model'] else ''}"
