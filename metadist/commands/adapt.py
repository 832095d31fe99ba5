"""``metadist adapt``: adapt a registered model to the examples of a file, and answer those of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, guarded
from metadist.commands.train import AsJson


def adapt(
    model_uri: Annotated[str, typer.Argument(help="models:/NAME@ALIAS, runs:/..., or a bundle folder.")],
    support: Annotated[Path, typer.Option(help="Parquet file: raw inputs and labels.")],
    query: Annotated[Path, typer.Option(help="Parquet file: raw inputs.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    label: Annotated[
        str | None, typer.Option(help="Label column of the support file. Default: label, or the target's name.")
    ] = None,
    inner_steps: Annotated[int | None, typer.Option(min=0, help="Default: as in the model's report.")] = None,
    json: AsJson = False,
) -> None:
    """Adapt a registered model and predict. Input columns are named and stored as in the task store."""
    with guarded():
        from metadist.adapter import load_adapter

        adapter = load_adapter(model_uri)
        result = _adapt(adapter, support, query, out, label, inner_steps)
        emit({"model_uri": model_uri, **result}, as_json=json, lines=lambda: _lines(result))


def _adapt(
    adapter: Any, support: Path, query: Path, out: Path, label: str | None, inner_steps: int | None
) -> dict[str, Any]:
    from metadist.serving.tables import input_values, label_values, read_table, write_answers

    column, target = adapter.bundle.input, adapter.bundle.target
    examples, queries = read_table(support), read_table(query)
    labels = label_values(examples, label or (target.name if target else "label"), support)
    predictor = adapter.adapt(input_values(examples, column, support), labels, inner_steps)
    x = input_values(queries, column, query)
    probability = predictor.predict_proba(x).max(-1).tolist() if predictor.classes else None
    write_answers(queries, column.name, predictor.predict(x).tolist(), probability, out)
    return {
        "out": str(out),
        "support": len(labels),
        "queries": len(x),
        "classes": list(predictor.classes) or None,
        "inner_steps": predictor.inner_steps,
        "support_loss": list(predictor.support_loss),
        "bundle": adapter.bundle.id,
    }


def _lines(result: dict[str, Any]) -> Iterator[str]:
    before, after = result["support_loss"]
    yield (
        f"adapted to {result['support']} examples in {result['inner_steps']} inner steps: support loss {before:.4g} "
        f"-> {after:.4g}"
    )
    yield f"{result['queries']} predictions in {result['out']}"
