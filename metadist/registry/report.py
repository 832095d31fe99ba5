"""The report that travels with a model: eager, one task at a time, by the very function that is served.

Legend: N tasks, K inner steps, M queries of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.adapter import Adapter, Predictor
from metadist.errors import GateRefused
from metadist.evaluate import Report
from metadist.parameters import aligned
from metadist.shard import TaskScores
from metadist.sources import ParquetSource
from metadist.tasks import Batch, TaskSource

CHUNK = 50
MAX_DROP = 0.02  # of accuracy, one query at a time against all in one pass
SELF_TEST_TASKS = 20
REGRESSION_QUERIES = 5


@dataclass(frozen=True, slots=True)
class RawTask:
    """A fixed task as a caller would send it; ``query_y`` is what the caller does not know."""

    support_x: NDArray[Any]
    support_y: NDArray[Any]
    query_x: NDArray[Any]
    query_y: NDArray[Any]


def raw_tasks(source: TaskSource, split: str, num_tasks: int) -> Iterator[RawTask]:
    """The first fixed tasks of ``split``, inputs before any transform."""
    for start in range(0, num_tasks, CHUNK):
        stop = min(start + CHUNK, num_tasks)
        if isinstance(source, ParquetSource):
            support, query = source.raw_fixed(split, start, stop)
            halves = [_sent(support.x), support.y, _sent(query.x), query.y]
            weights: tuple[NDArray[Any] | None, ...] = (support.weight, query.weight)
        else:
            task = source.fixed(split, start, stop)
            assert task.support is not None and task.query is not None
            halves = [np.asarray(leaf) for leaf in (task.support.x, task.support.y, task.query.x, task.query.y)]
            weights = tuple(None if half is None else half.numpy() for half in (task.support.weight, task.query.weight))
        for index in range(len(halves[0])):
            # Nobody sends padding.
            seen, asked = (slice(None) if weight is None else weight[index] > 0 for weight in weights)
            support_x, support_y, query_x, query_y = (half[index] for half in halves)
            yield RawTask(support_x[seen], support_y[seen], query_x[asked], query_y[asked])


def _sent(values: NDArray[Any]) -> NDArray[Any]:
    """Stored values as a request and a file carry them: numbers as float32, text as text."""
    return np.array(values.tolist(), np.str_) if values.dtype.hasobject else values.astype(np.float32)


def served_report(
    adapter: Adapter,
    source: TaskSource,
    *,
    split: str,
    num_tasks: int,
    facts: dict[str, Any],
    on_task: Callable[[int], None] = lambda done: None,
) -> tuple[Report, dict[str, NDArray[Any]]]:
    """Judge ``adapter`` on fixed tasks; also the first tasks with their answers, for its self-test.

    Args:
        adapter: The model, exactly as it will be served.
        source: The run's tasks.
        split, num_tasks: Which fixed tasks.
        facts: What a figure means (ways, shots, queries, normalisation).
        on_task: Hears how many tasks are done.
    """
    query: dict[str, list[list[float]]] = {}
    one_query: dict[str, list[float]] = {}
    same_queries: dict[str, list[float]] = {}
    support_loss: list[list[float]] = []
    self_test: dict[str, list[NDArray[Any]]] = {}
    for index, task in enumerate(raw_tasks(source, split, num_tasks)):
        path = adapter.path(task.support_x, task.support_y)
        outputs = [predictor.outputs(task.query_x) for predictor in path]
        by_step = [_scores(adapter, values, task.query_y) for values in outputs]
        for name in by_step[0]:
            query.setdefault(name, []).append([scores[name] for scores in by_step])
        asked = _asked_alone(task, adapter.bundle.spec.kind == "classes")
        alone = _scores(adapter, _alone(path[-1], task.query_x[asked]), task.query_y[asked])
        together = _scores(adapter, outputs[-1][asked], task.query_y[asked])
        for name, value in alone.items():
            one_query.setdefault(name, []).append(value)
            same_queries.setdefault(name, []).append(together[name])
        support_loss.append([predictor.support_loss[1] for predictor in path])
        kept = {"support_x": task.support_x, "support_y": task.support_y, "query_x": task.query_x}
        alike = all(kept[name].shape == arrays[0].shape for name, arrays in self_test.items() if name in kept)
        if index < SELF_TEST_TASKS and alike:  # they are kept side by side
            for name, array in {**kept, "outputs": outputs[-1]}.items():
                self_test.setdefault(name, []).append(array)
        on_task(index + 1)
    report = Report(
        step=int(adapter.bundle.facts["step"]),
        split=split,
        task_set=source.task_set(split, num_tasks),
        facts={
            **facts,
            "one_query": {
                "queries_a_task": len(asked),
                "alone": {name: float(np.mean(values)) for name, values in one_query.items()},
                "in_one_pass": {name: float(np.mean(values)) for name, values in same_queries.items()},
            },
        },
        decides=adapter.bundle.config.evaluation.metric,
        scores=TaskScores(
            {name: np.array(values, np.float32) for name, values in query.items()},
            np.array(support_loss, np.float32),
            {name: np.array(values, np.float32) for name, values in one_query.items()},
        ),
    )
    return report, {name: np.stack(arrays) for name, arrays in self_test.items()}


def check_one_query(report: Mapping[str, Any]) -> None:
    """Refuse a classifier that lives on the company of the other queries; ``report`` as it lies in the bundle.

    Raises:
        GateRefused: one query at a time its accuracy is more than 2 points lower, on the same queries.
    """
    found = report["one_query"]
    together, alone = found["in_one_pass"].get("accuracy"), found["alone"].get("accuracy")
    if together is None or round(together - alone, 6) <= MAX_DROP:
        return
    raise GateRefused(
        f"on {report['num_tasks']} {report['split']} tasks accuracy is {together:.1%} with all queries of a task in "
        f"one pass, but {alone:.1%} one query at a time (normalisation: {report['normalisation']}): a served model "
        "would answer by the company that a query comes in. Train with algorithm.normalisation: inductive, or "
        "register with --allow-transductive"
    )


def _asked_alone(task: RawTask, classes: bool) -> NDArray[np.int64]:
    """Places of the queries that are also asked alone: the first of each class, or the first few.

    Asking all of them alone would take longer than everything else together.
    """
    if classes:
        return np.sort(np.unique(task.query_y, return_index=True)[1])
    return np.arange(min(len(task.query_y), REGRESSION_QUERIES))


def _alone(predictor: Predictor, query_x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs (M, ...) with each query asked alone."""
    return np.concatenate([predictor.outputs(query_x[m : m + 1]) for m in range(len(query_x))])


def _scores(adapter: Adapter, outputs: NDArray[np.float32], query_y: NDArray[Any]) -> dict[str, float]:
    values = aligned(outputs)
    truth = Batch(values, aligned(query_y if adapter.columns.targets is None else adapter.columns.scaled(query_y)))
    loss, metrics = adapter.objective.loss(values, truth), adapter.objective.metrics(values, truth)
    return {"loss": float(loss), **{name: float(value) for name, value in metrics.items()}}
