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
from metadist.sources import Source
from metadist.tasks import Batch

CHUNK = 50
MAX_DROP = 0.02  # of accuracy, one query at a time against all in one pass
SELF_TEST_TASKS = 20


@dataclass(frozen=True, slots=True)
class RawTask:
    """A fixed task as a caller would send it; ``query_y`` is what the caller does not know."""

    support_x: NDArray[np.float32]
    support_y: NDArray[Any]
    query_x: NDArray[np.float32]
    query_y: NDArray[Any]


def raw_tasks(source: Source, split: str, num_tasks: int) -> Iterator[RawTask]:
    """The first fixed tasks of ``split``; ``source`` must be built without transforms."""
    for start in range(0, num_tasks, CHUNK):
        task = source.fixed(split, start, min(start + CHUNK, num_tasks))
        assert task.support is not None and task.query is not None
        halves = [np.asarray(leaf) for leaf in (task.support.x, task.support.y, task.query.x, task.query.y)]
        for index in range(len(halves[0])):
            yield RawTask(*(half[index] for half in halves))


def served_report(
    adapter: Adapter,
    source: Source,
    *,
    split: str,
    num_tasks: int,
    facts: dict[str, Any],
    on_task: Callable[[int], None] = lambda done: None,
) -> tuple[Report, dict[str, NDArray[Any]]]:
    """Judge ``adapter`` on fixed tasks; also the first tasks with their answers, for its self-test.

    Args:
        adapter: The model, exactly as it will be served.
        source: The run's tasks, without transforms.
        split, num_tasks: Which fixed tasks.
        facts: What a figure means (ways, shots, queries, normalisation).
        on_task: Hears how many tasks are done.
    """
    query: dict[str, list[list[float]]] = {}
    one_query: dict[str, list[float]] = {}
    support_loss: list[list[float]] = []
    self_test: dict[str, list[NDArray[Any]]] = {}
    for index, task in enumerate(raw_tasks(source, split, num_tasks)):
        path = adapter.path(task.support_x, task.support_y)
        outputs = [predictor.outputs(task.query_x) for predictor in path]
        by_step = [_scores(adapter, values, task) for values in outputs]
        for name in by_step[0]:
            query.setdefault(name, []).append([scores[name] for scores in by_step])
        for name, value in _scores(adapter, _alone(path[-1], task), task).items():
            one_query.setdefault(name, []).append(value)
        support_loss.append([predictor.support_loss[1] for predictor in path])
        if index < SELF_TEST_TASKS:
            kept = {"support_x": task.support_x, "support_y": task.support_y, "query_x": task.query_x}
            for name, array in {**kept, "outputs": outputs[-1]}.items():
                self_test.setdefault(name, []).append(array)
        on_task(index + 1)
    report = Report(
        step=int(adapter.bundle.facts["step"]),
        split=split,
        task_set=source.task_set(split, num_tasks),
        facts=facts,
        scores=TaskScores(
            {name: np.array(values, np.float32) for name, values in query.items()},
            np.array(support_loss, np.float32),
            {name: np.array(values, np.float32) for name, values in one_query.items()},
        ),
    )
    return report, {name: np.stack(arrays) for name, arrays in self_test.items()}


def check_one_query(report: Mapping[str, Any]) -> None:
    """Refuse a classifier that lives on the company of the other queries; ``report`` as `Report.to_json` gives it.

    Raises:
        GateRefused: one query at a time its accuracy is more than 2 points lower.
    """
    steps, together = next(reversed(report["by_inner_steps"].items()))
    alone = report["one_query_at_a_time"]
    if "accuracy" not in together or round(together["accuracy"] - alone["accuracy"], 6) <= MAX_DROP:
        return
    raise GateRefused(
        f"accuracy on {report['num_tasks']} {report['split']} tasks after {steps} inner steps is "
        f"{together['accuracy']:.1%} with all queries of a task in one pass, but {alone['accuracy']:.1%} one query at "
        f"a time (normalisation: {report['normalisation']}): a served model would answer by the company that a query "
        "comes in. Train with algorithm.normalisation: inductive, or register with --allow-transductive"
    )


def _alone(predictor: Predictor, task: RawTask) -> NDArray[np.float32]:
    """Outputs (M, ...) with each query asked alone."""
    return np.concatenate([predictor.outputs(task.query_x[m : m + 1]) for m in range(len(task.query_x))])


def _scores(adapter: Adapter, outputs: NDArray[np.float32], task: RawTask) -> dict[str, float]:
    values = aligned(outputs)
    truth = Batch(values, aligned(task.query_y))
    loss, metrics = adapter.objective.loss(values, truth), adapter.objective.metrics(values, truth)
    return {"loss": float(loss), **{name: float(value) for name, value in metrics.items()}}
