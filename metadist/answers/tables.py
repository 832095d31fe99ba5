"""Many tasks in Parquet files: support and query rows by group in, answers and states out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metadist.adapter import Adapter, probabilities
from metadist.answers.groups import PASS, SHOWN, Grouped, Rows, States, adapt_groups, predict_groups
from metadist.errors import DataError
from metadist.serving.states import StateWriter, read_states
from metadist.serving.tables import input_values, label_name, label_values, read_table, write_answers


def answer_groups(
    adapter: Adapter,
    support: Path,
    query: Path,
    out: Path,
    *,
    group: str,
    label: str | None = None,
    inner_steps: int | None = None,
    save_states: Path | None = None,
) -> dict[str, Any]:
    """Adapt to every group of ``query`` by its rows of ``support``, and write an answer beside each query row.

    Raises:
        DataError: a file, a column or a group does not fit the model.
    """
    examples, queries = read_table(support), read_table(query)
    name = label or label_name(adapter.bundle.target, examples)
    names, (s_codes, q_codes) = _numbered([(examples, support), (queries, query)], group)
    by_support, by_query = Grouped.of(s_codes, len(names)), Grouped.of(q_codes, len(names))
    wanted = np.flatnonzero(by_query.counts)
    steps = adapter.inner_steps if inner_steps is None else inner_steps
    answers = _Answers(adapter, len(q_codes))
    passes = adapt_groups(
        adapter,
        names,
        by_support,
        _inputs(adapter, examples, support),
        lambda rows: label_values(examples.take(rows), name, support),
        wanted=wanted,
        inner_steps=steps,
    )
    kept = StateWriter(save_states, bundle=adapter.bundle.id, inner_steps=steps) if save_states else nullcontext()
    with kept as writer:
        for states in passes:
            if writer is not None:
                writer.write([names[place] for place in states.groups], states.classes, states.leaves)
            answers.add(states, by_query, _inputs(adapter, queries, query))
    answers.write(queries, out)
    return {
        "out": str(out),
        "groups": len(wanted),
        "groups_without_queries": int((by_query.counts == 0).sum()),
        "support": int(by_support.counts[wanted].sum()),
        "queries": len(q_codes),
        "inner_steps": steps,
        "states": None if save_states is None else str(save_states),
        "bundle": adapter.bundle.id,
    }


def answer_states(adapter: Adapter, states: Path, query: Path, out: Path, *, group: str) -> dict[str, Any]:
    """The same by states that an earlier call saved: no support rows are needed.

    Raises:
        DataError: the states are of another model, or a group of the queries has none.
    """
    queries = read_table(query)
    names, (codes,) = _numbered([(queries, query)], group)
    by_query, number_of = Grouped.of(codes, len(names)), {name: place for place, name in enumerate(names)}
    answers, seen, unasked = _Answers(adapter, len(codes)), set[str](), 0
    for own, classes, leaves in read_states(states, adapter.bundle.id, PASS):
        places = [place for place, name in enumerate(own) if name in number_of]
        unasked += len(own) - len(places)
        if not places:
            continue
        kept = States(
            np.array([number_of[own[place]] for place in places]),
            {name: leaf[places] for name, leaf in leaves.items()},
            [classes[place] for place in places],
        )
        answers.add(kept, by_query, _inputs(adapter, queries, query))
        seen.update(own[place] for place in places)
    missing = [name for name in names if name not in seen]
    if missing:
        shown = ", ".join(map(repr, missing[:SHOWN]))
        raise DataError(f"{states} has no state of {len(missing)} groups of {query}: {shown}; adapt with --support")
    answers.write(queries, out)
    return {
        "out": str(out),
        "groups": len(names),
        "groups_without_queries": unasked,
        "support": None,
        "queries": len(codes),
        "inner_steps": None,
        "states": str(states),
        "bundle": adapter.bundle.id,
    }


class _Answers:
    """Answers by query row, filled group by group."""

    def __init__(self, adapter: Adapter, rows: int) -> None:
        self.adapter = adapter
        self.predicted: list[Any] = [None] * rows
        self.probability: list[float] | None = None if adapter.bundle.target is not None else [0.0] * rows

    def add(self, states: States, query: Grouped, query_x: Rows) -> None:
        classes_of = dict(zip(states.groups.tolist(), states.classes, strict=False))
        target = self.adapter.bundle.target
        for group, rows, outputs in predict_groups(self.adapter, states, query, query_x):
            if target is not None:
                for row, value in zip(rows, self.adapter.columns.in_units(outputs).tolist(), strict=True):
                    self.predicted[row] = value
                continue
            table = probabilities(outputs)
            assert self.probability is not None
            for row, likely in zip(rows, table, strict=True):
                self.predicted[row] = classes_of[group][int(likely.argmax())]
                self.probability[row] = float(likely.max())

    def write(self, queries: pa.Table, out: Path) -> None:
        write_answers(queries, self.adapter.bundle.input, self.predicted, self.probability, out)


def _numbered(tables: Sequence[tuple[pa.Table, Path]], group: str) -> tuple[list[str], list[NDArray[np.int64]]]:
    """The groups' names as text, and the group number of each row of each table."""
    columns = []
    for table, path in tables:
        label_values(table.slice(0, 0), group, path)  # says what is wrong with the column
        if table.column(group).null_count:
            raise DataError(f"{path}: column {group!r} has {table.column(group).null_count} nulls")
        columns.append(pc.cast(table.column(group), pa.string()))
    coded = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    whole = coded.combine_chunks().dictionary_encode()
    codes = whole.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return whole.dictionary.to_pylist(), np.split(codes, ends)


def _inputs(adapter: Adapter, table: pa.Table, path: Path) -> Rows:
    return lambda rows: input_values(table.take(rows), adapter.bundle.input, path)
