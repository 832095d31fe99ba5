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
    support: Annotated[
        str | None, typer.Option(help="Kind groups: numbers of support examples, 0,1,5; a line each.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Also baselines without meta-learning, on the same tasks.")] = False,
    set: Settings = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Judge a run on fixed tasks that it has never seen."""
    with guarded():
        from metadist.config.load import parse_overrides
        from metadist.errors import EXIT_TRACKING_INCOMPLETE
        from metadist.evidence.controls import run_evidence
        from metadist.run import evaluate_sizes

        overrides = parse_overrides(set)
        sizes = None if support is None else sizes_of(support)
        found = evaluate_sizes(
            run_dir, sizes, split=split, num_tasks=num_tasks, which=checkpoint, set=overrides, on_message=say
        )
        results = {}
        for size, report in found.items():
            results[size] = report.to_json()
            if baselines:
                wanted = {} if size is None else {"evaluation.support": list(found), "evaluation.shots": size}
                results[size]["baselines"] = run_evidence(run_dir, report, {**overrides, **wanted}, say)
        unsent = list(found.values())[-1].unsent_events  # each sends what those before it left
        if None in results:
            emit({**results[None], "unsent_events": unsent}, as_json=json, lines=lambda: _lines(results[None]))
        else:
            by_size = {str(size): result for size, result in results.items()}
            answer = {"by_support": by_size, "unsent_events": unsent}
            emit(answer, as_json=json, lines=lambda: _lines_by_size(by_size))
        if unsent:
            raise typer.Exit(EXIT_TRACKING_INCOMPLETE)


def sizes_of(text: str) -> list[int]:
    """``"0,1,5"`` as numbers.

    Raises:
        UsageError: it is no such list.
    """
    from metadist.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UsageError(f"--support {text!r} is not a list of numbers of examples; write --support 0,1,5")
    return [int(part) for part in parts]


def _lines_by_size(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    first = next(iter(results.values()))
    yield (
        f"{first['split']}: {first['num_tasks']} tasks, {first['queries']} queries, {first['normalisation']}, "
        f"checkpoint {first['checkpoint']}, by support examples:"
    )
    for size, report in results.items():
        metric = next(iter(report["one_query_at_a_time"]))
        steps, figures = list(report["by_inner_steps"].items())[-1]
        diverged = f", {report['diverged_tasks']} tasks diverged" if report["diverged_tasks"] else ""
        yield f"  {size:>5} support  {figure(metric, figures)} after {steps} inner steps{diverged}"
        yield from _baselines(report, metric, " " * 8)


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
    yield from _baselines(report, metric, "  ")


def _baselines(report: Mapping[str, Any], metric: str, indent: str) -> Iterator[str]:
    """A line for each baseline, and one for what they say together."""
    from metadist.evidence.baselines import verdict_line

    baselines = report.get("baselines", {})
    for name, figures in baselines.items():
        beats = "   <- beats the model" if figures["beats_model"] else ""
        yield f"{indent}{name:<24}  {figure(metric, figures)}{beats}"
    if baselines:
        yield f"{indent}{verdict_line(baselines, report['num_tasks'])}"
