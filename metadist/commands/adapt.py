"""``metadist adapt``: adapt a registered model to the examples of a file, and answer those of another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, guarded
from metadist.commands.train import AsJson


def adapt(
    model_uri: Annotated[str, typer.Argument(help="models:/NAME@ALIAS, runs:/..., or a bundle folder.")],
    query: Annotated[Path, typer.Option(help="Parquet, CSV, TSV, JSONL or Arrow: raw inputs.")],
    out: Annotated[Path, typer.Option(help="File to write, in one of these formats.")],
    support: Annotated[Path | None, typer.Option(help="The same: raw inputs and labels.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Label column of the support file. Default: label, or the target's name.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column of the group: each group is a task of its own.")] = None,
    save_states: Annotated[Path | None, typer.Option(help="With --group: keep what adaptation made.")] = None,
    states: Annotated[Path | None, typer.Option(help="With --group: such a file, instead of --support.")] = None,
    inner_steps: Annotated[int | None, typer.Option(min=0, help="Default: as in the model's report.")] = None,
    json: AsJson = False,
) -> None:
    """Adapt a registered model and predict. Input columns are named and stored as in the task store."""
    with guarded():
        from metadist.adapter import load_adapter
        from metadist.errors import UsageError

        if (support is None) == (states is None):
            raise UsageError("give --support FILE, or --states FILE of an earlier --save-states")
        if group is None and (states or save_states):
            raise UsageError("--states and --save-states are of many groups: name their column with --group")
        if states is not None and (save_states or label or inner_steps is not None):
            raise UsageError("--states are adapted already: --save-states, --label and --inner-steps go with --support")
        adapter, begun = load_adapter(model_uri), time.perf_counter()
        if group is None:
            assert support is not None
            result = _adapt(adapter, support, query, out, label, inner_steps)
        else:
            from metadist.answers.tables import answer_groups, answer_states

            if states is not None:
                result = answer_states(adapter, states, query, out, group=group)
            else:
                assert support is not None
                result = answer_groups(
                    adapter,
                    support,
                    query,
                    out,
                    group=group,
                    label=label,
                    inner_steps=inner_steps,
                    save_states=save_states,
                )
        result["seconds"] = time.perf_counter() - begun
        emit({"model_uri": model_uri, **result}, as_json=json, lines=lambda: _lines(result))


def _adapt(
    adapter: Any, support: Path, query: Path, out: Path, label: str | None, inner_steps: int | None
) -> dict[str, Any]:
    from metadist.serving.answers import check_out, write_answers
    from metadist.serving.tables import input_values, label_name, label_values, read_table, text_columns

    column, target = adapter.bundle.input, adapter.bundle.target
    text = text_columns(column, target, label, None)
    examples, queries = read_table(support, text), read_table(query, text)
    check_out(out, queries, column, target)
    labels = label_values(examples, label or label_name(target, examples), support)
    predictor = adapter.adapt(input_values(examples, column, support), labels, inner_steps)
    x = input_values(queries, column, query)
    if target is None:  # one pass gives both
        table = predictor.predict_proba(x)
        predicted, probability = [predictor.classes[place] for place in table.argmax(-1)], table.max(-1)
    else:
        predicted, probability = predictor.predict(x).tolist(), None

    def answers(start: int, stop: int) -> tuple[list[Any], Any]:
        return predicted[start:stop], None if probability is None else probability[start:stop]

    write_answers(queries, column, out, answers, shape=None if target is None else target.shape)
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
    if "groups" in result:
        if result["support"] is None:
            yield f"{result['groups']} groups by their saved states"
        else:
            yield f"{result['groups']} groups, {result['support']} support rows, {result['inner_steps']} inner steps"
        if result["groups_without_queries"]:
            yield f"{result['groups_without_queries']} groups have no queries and were passed over"
    else:
        before, after = result["support_loss"]
        yield (
            f"adapted to {result['support']} examples in {result['inner_steps']} inner steps: support loss "
            f"{before:.4g} -> {after:.4g}"
        )
    rate = result["queries"] / max(result["seconds"], 1e-9)
    yield f"{result['queries']} predictions in {result['out']}, {rate:,.0f} a second"
