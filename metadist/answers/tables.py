"""Many tasks in files of tables: support and query rows by group in, answers and states out.

Held in memory are both tables as they are read, the group of each row, the names of the groups and the different
labels; answers wait in a file for the rows before theirs, and states go out as they come.
"""

from __future__ import annotations

import tempfile
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
from metadist.serving.answers import check_out, write_answers
from metadist.serving.inputs import Label
from metadist.serving.states import StateWriter, read_states
from metadist.serving.tables import (
    input_columns,
    input_values,
    label_name,
    label_values,
    read_table,
    text_columns,
)


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
    inputs, target = adapter.bundle.input, adapter.bundle.target
    text = text_columns(inputs, target, label, group)
    examples, queries = read_table(support, text), read_table(query, text)
    check_out(out, queries, inputs, target)
    name = label or label_name(target, examples)
    names, (s_codes, q_codes) = _numbered([(examples, support), (queries, query)], group)
    by_support, by_query = Grouped.of(s_codes, len(names)), Grouped.of(q_codes, len(names))
    wanted = np.flatnonzero(by_query.counts)
    steps = adapter.inner_steps if inner_steps is None else inner_steps
    answers = _Answers(adapter, len(q_codes), out)
    labels = examples.select([name]) if name in examples.column_names else examples
    passes = adapt_groups(
        adapter,
        names,
        by_support,
        _inputs(adapter, examples, support),
        lambda rows: label_values(labels.take(rows), name, support),
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
        "states": None if writer is None or writer.is_empty else str(save_states),
        "bundle": adapter.bundle.id,
    }


def answer_states(adapter: Adapter, states: Path, query: Path, out: Path, *, group: str) -> dict[str, Any]:
    """The same by states that an earlier call saved: no support rows are needed.

    Raises:
        DataError: the states are of another model, or a group of the queries has none.
    """
    queries = read_table(query, text_columns(adapter.bundle.input, adapter.bundle.target, None, group))
    check_out(out, queries, adapter.bundle.input, adapter.bundle.target)
    names, (codes,) = _numbered([(queries, query)], group)
    by_query, number_of = Grouped.of(codes, len(names)), {name: place for place, name in enumerate(names)}
    answers, seen, unasked = _Answers(adapter, len(codes), out), set[str](), 0
    inputs = _inputs(adapter, queries, query)
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
        answers.add(kept, by_query, inputs)
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
    """Answers by query row, filled group by group: in files without a name, mapped into memory.

    Attributes:
        labels: The different labels, each with its number.
        found: (rows, D) values of a regression, or (rows, 1) numbers of labels.
        probability: (rows,) of the label.
    """

    def __init__(self, adapter: Adapter, rows: int, out: Path) -> None:
        self.adapter, self.rows = adapter, rows
        self.shape = None if adapter.bundle.target is None else adapter.bundle.target.shape
        width = 1 if self.shape is None else int(np.prod(self.shape, dtype=np.int64))
        self.labels: dict[Label, int] = {}
        self.found = _on_disk((rows, width), np.int64 if self.shape is None else np.float32, out)
        self.probability = _on_disk((rows if self.shape is None else 0,), np.float32, out)

    def add(self, states: States, query: Grouped, query_x: Rows) -> None:
        classes_of = dict(zip(states.groups.tolist(), states.classes, strict=False))
        for group, rows, outputs in predict_groups(self.adapter, states, query, query_x):
            if self.shape is not None:
                self.found[rows] = self.adapter.columns.in_units(outputs).reshape(len(rows), -1)
                continue
            likely = probabilities(outputs)
            numbers = [self.labels.setdefault(label, len(self.labels)) for label in classes_of[group]]
            self.found[rows, 0] = np.array(numbers)[likely.argmax(1)]
            self.probability[rows] = likely.max(1)

    def write(self, queries: pa.Table, out: Path) -> None:
        labels = list(self.labels)

        def answers(start: int, stop: int) -> tuple[list[Any], Any]:
            part = self.found[start:stop]
            if self.shape is not None:
                return part.reshape(len(part), *self.shape).tolist(), None
            return [labels[number] for number in part[:, 0]], self.probability[start:stop]

        write_answers(queries, self.adapter.bundle.input, out, answers, shape=self.shape)


def _on_disk(shape: tuple[int, ...], dtype: Any, out: Path) -> NDArray[Any]:
    if 0 in shape:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(dir=out.parent) as file:
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from None


def _numbered(tables: Sequence[tuple[pa.Table, Path]], group: str) -> tuple[list[str], list[NDArray[np.int64]]]:
    """The groups' names as text, and the group number of each row of each table."""
    columns = []
    for table, path in tables:
        label_values(table.slice(0, 0), group, path)  # says what is wrong with the column
        if table.column(group).null_count:
            raise DataError(f"{path}: column {group!r} has {table.column(group).null_count} nulls")
        if pa.types.is_nested(table.column(group).type):
            raise DataError(f"{path}: column {group!r} is {table.column(group).type}; text or a number names a group")
        columns.append(pc.cast(table.column(group), pa.string()))
    coded = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    whole = coded.combine_chunks().dictionary_encode()
    codes = whole.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return whole.dictionary.to_pylist(), np.split(codes, ends)


def _inputs(adapter: Adapter, table: pa.Table, path: Path) -> Rows:
    column = adapter.bundle.input
    needed = table.select(input_columns(column, table.schema) or table.column_names)  # else it says what is missing
    return lambda rows: input_values(needed.take(rows), column, path)
