"""Many tasks at once: a registered model adapted to every group of a table, some hundred groups in one vmapped pass.

Legend: G groups, T groups of a pass, N support rows of each, M the most query rows of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from metadist.adapter import Adapter, checked_steps
from metadist.algorithms import Adapted
from metadist.errors import DataError
from metadist.parameters import aligned
from metadist.serving.inputs import Label, class_labels, raw_inputs, targets
from metadist.tasks import Batch, Context

PASS = 256  # groups of a pass: more save little time and cost memory
ROWS = 8192  # queries of a pass, padding among them: a few hundred MB in a convolution of 64 filters
SHOWN = 5

Rows = Callable[[NDArray[np.int64]], Any]
"""Row numbers to raw values (rows, *shape), or to a list of labels."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """A table's rows by group: ``order`` (rows,) sorts them, group g has ``order[offsets[g]:offsets[g + 1]]``."""

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], num_groups: int) -> Grouped:
        """From the group number of each row; rows of a group stay in order."""
        counts = np.bincount(codes, minlength=num_groups)
        return cls(np.argsort(codes, kind="stable"), np.concatenate([[0], np.cumsum(counts)]))

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def rows(self, group: int) -> NDArray[np.int64]:
        """The rows of a group."""
        return self.order[self.offsets[group] : self.offsets[group + 1]]


class States(NamedTuple):
    """What adaptation made of T groups, without what they share.

    Attributes:
        groups: Their numbers (T,).
        leaves: Name -> (T, ...): adapted leaves ``params.*``, ``statistics.*`` and ``head.*``.
        classes: The labels of each, in the order of the outputs; empty for a regression.
    """

    groups: NDArray[np.int64]
    leaves: Mapping[str, NDArray[np.float32]]
    classes: Sequence[tuple[Label, ...]]


def adapt_groups(
    adapter: Adapter,
    names: Sequence[str],
    support: Grouped,
    support_x: Rows,
    support_y: Rows,
    *,
    wanted: NDArray[np.int64],
    inner_steps: int,
) -> Iterator[States]:
    """Adapt to the groups ``wanted``, those with equally many support rows together.

    The answers are those of `Adapter.adapt` for each group alone, but for the last bits, which depend on the width.

    Raises:
        DataError: a group's rows do not fit the model; names the group.
    """
    steps = checked_steps(inner_steps)
    empty = wanted[support.counts[wanted] == 0]
    if len(empty) and not adapter.takes_nothing:
        shown = ", ".join(repr(names[group]) for group in empty[:SHOWN])
        raise DataError(f"{len(empty)} groups of the queries have no support rows: {shown}; this model needs some")
    for groups in _passes(wanted, support.counts):
        rows = np.concatenate([support.rows(group) for group in groups])
        size = len(rows) // len(groups)
        batch, classes = _support(adapter, [names[group] for group in groups], size, rows, support_x, support_y)
        with adapter.computing():
            context = Context(adapter.context.progress, torch.zeros(len(groups), dtype=torch.int64))
            found = _lifted(adapter, batch, context, steps)
        yield States(groups, {name: leaf.numpy() for name, leaf in found.items()}, classes)


def predict_groups(
    adapter: Adapter, states: States, query: Grouped, query_x: Rows
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """Outputs of the queries of these groups: (group, row numbers, raw outputs (rows, D)), in some order; a group with
    very many queries comes in several pieces where a query's answer does not depend on the others."""
    for pieces in _query_passes(states, query, cut=adapter.independent_queries):
        places = np.array([place for place, _ in pieces])
        most = max(len(rows) for _, rows in pieces)
        padded = np.concatenate([np.resize(rows, most) for _, rows in pieces])
        raw = raw_inputs(query_x(padded), adapter.bundle.input, "query_x")
        with adapter.computing():
            x = adapter.columns.tensors(raw.reshape(len(places), most, *raw.shape[1:]))
            chosen = {name: aligned(leaf[places]) for name, leaf in states.leaves.items()}
            outputs = vmap(lambda own, x: adapter.algorithm.predict(_whole(adapter, own), x))(chosen, x).numpy()
        for (place, rows), found in zip(pieces, outputs, strict=True):
            yield int(states.groups[place]), rows, found[: len(rows)]


def _query_passes(states: States, query: Grouped, *, cut: bool) -> Iterator[list[tuple[int, NDArray[np.int64]]]]:
    """Places of groups with query rows of theirs, as they go together: at most `ROWS` rows when padded to the most.
    Without ``cut`` a group is whole, and only those with equally many go together, so that nothing is padded."""
    own = [query.rows(group) for group in states.groups]
    size = ROWS if cut else max(1, *map(len, own))
    pieces = [
        (place, rows[start : start + size]) for place, rows in enumerate(own) for start in range(0, len(rows), size)
    ]
    together: list[tuple[int, NDArray[np.int64]]] = []
    for place, rows in sorted(pieces, key=lambda piece: len(piece[1])):
        is_full = (len(together) + 1) * len(rows) > ROWS
        is_other = not cut and together and len(together[-1][1]) != len(rows)
        if together and (is_full or is_other):
            yield together
            together = []
        together.append((place, rows))
    if together:
        yield together


def _passes(wanted: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for size in np.unique(counts[wanted]):
        alike = wanted[counts[wanted] == size]
        for start in range(0, len(alike), PASS):
            yield alike[start : start + PASS]


def _support(
    adapter: Adapter, names: Sequence[str], size: int, rows: NDArray[np.int64], support_x: Rows, support_y: Rows
) -> tuple[Batch, list[tuple[Label, ...]]]:
    """The support sets of a pass as one batch (T, N, ...), and each group's labels."""
    bundle, count = adapter.bundle, len(names)
    if size == 0:
        return tree_map(lambda leaf: leaf.expand(count, *leaf.shape), adapter.columns.nothing()), []
    raw = raw_inputs(support_x(rows), bundle.input, "support_x")
    values, classes = support_y(rows), []
    parts: list[NDArray[Any]] = []
    for place, name in enumerate(names):
        own = values[place * size : (place + 1) * size]
        try:
            if bundle.target is None:
                labels, numbers = class_labels(own, size, bundle.spec.outputs)
                classes.append(labels)
                parts.append(numbers)
            else:
                parts.append(adapter.columns.scaled(targets(own, size, bundle.target)))
        except DataError as error:
            raise DataError(f"group {name!r}: {error}") from None
    return Batch(adapter.columns.tensors(raw.reshape(count, size, *raw.shape[1:])), aligned(np.stack(parts))), classes


def _lifted(adapter: Adapter, batch: Batch, context: Context, steps: int) -> dict[str, Tensor]:
    shared = adapter.meta.model

    def one(support: Batch, ctx: Context) -> dict[str, Tensor]:
        found = adapter.algorithm.adapt(adapter.meta, support, ctx, num_steps=steps)
        # What is the very tensor that all share was not adapted, and is not kept.
        own = {name: leaf for name, leaf in found.params.items() if leaf is not shared.get(name)}
        halves = {"params": own, "statistics": found.statistics, "head": found.head}
        return {f"{half}.{name}": leaf for half, tree in halves.items() for name, leaf in tree.items()}

    axes = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, batch)
    found: dict[str, Tensor] = vmap(one, in_dims=(axes, Context(None, 0)))(batch, context)  # type: ignore[arg-type]
    return found


def _whole(adapter: Adapter, own: Mapping[str, Tensor]) -> Adapted:
    halves: dict[str, dict[str, Tensor]] = {"params": dict(adapter.meta.model), "statistics": {}, "head": {}}
    for name, leaf in own.items():
        half, _, short = name.partition(".")
        halves[half][short] = leaf
    return Adapted(**halves)
