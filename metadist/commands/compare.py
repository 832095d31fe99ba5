"""``metadist compare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, figure, guarded, say
from metadist.commands.train import AsJson


def compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another.")],
    split: Annotated[str, typer.Option(help="Which classes or groups.")] = "test",
    latex: Annotated[bool, typer.Option(help="Print a LaTeX table.")] = False,
    json: AsJson = False,
) -> None:
    """Compare the best checkpoints of two runs, task by task."""
    with guarded():
        from metadist.evidence.compare import compared, judged_alike
        from metadist.evidence.compare import latex as as_latex

        found = compared(*judged_alike(run_a, run_b, split, say))
        emit(found, as_json=json, lines=lambda: iter([as_latex(found)]) if latex else _lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    metric = found["metric"]
    scale, unit = (100, " points") if metric == "accuracy" else (1, "")
    for kind in ("in_one_pass", "one_query_at_a_time"):
        part = found[kind]
        yield f"{kind.replace('_', ' ')}, {found['num_tasks']} {found['split']} tasks:"
        for run, figures in part["runs"].items():
            yield (
                f"  {run}  {figures['algorithm']}, {figures['normalisation']}, {figures['queries']} queries, "
                f"checkpoint {figures['checkpoint']}: {figure(metric, figures)}"
            )
        verdict = f"{part['winner']} is better" if part["winner"] else "no difference beyond chance"
        yield (
            f"  paired difference {scale * part['difference']:+.3g} +- {scale * part['difference_ci95']:.2g}{unit}: "
            f"{verdict}"
        )
