"""What the support set alone gives, without any network. `metadist.evidence.controls` has the baselines with one.

Each baseline sees exactly the fixed tasks of a report and is compared with it in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metadist.config import RunConfig
from metadist.config.presets import is_own
from metadist.errors import UsageError
from metadist.evaluate import Report, mean_ci95
from metadist.folder.run_folder import read_config, read_fingerprint
from metadist.objectives import Objective, build_objective, regression
from metadist.parts import in_units
from metadist.sources import ParquetSource, build_source, targets_of
from metadist.tasks import Batch, TaskSource
from tasks_store.generators.customers import GENERATED, bayes_optimum

Predict = Callable[[NDArray[np.float32], NDArray[Any], NDArray[np.float32]], NDArray[Any]]
CHUNK = 50
IDS, MASK = "ids", "mask"  # as `tokenize` names them
VERDICTS = BEATS, UNDECIDED, BEATEN = "beats", "cannot be told apart from", "is beaten by"


def run_baselines(run_dir: Path, report: Report, overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Scores of the baselines that fit the run's tasks, by name, with mean, interval and the paired difference.

    Raises:
        UsageError: the report has no metric that they are compared by.
    """
    config = read_config(run_dir, overrides)
    source = build_source(config, read_fingerprint(run_dir)["location"])
    metric, classes = metric_of(report, config), source.spec.kind == "classes"
    methods = {**_methods(classes, report), **_known_optimum(source, metric)}
    shipped = regression(metrics=("mse",)) if is_own(config.objective.name) else build_objective(config.objective)
    error = in_units(shipped, targets_of(source))
    scores: dict[str, list[float]] = {name: [] for name in methods}
    for start in range(0, report.num_tasks, CHUNK):
        task = source.fixed(report.split, start, min(start + CHUNK, report.num_tasks))
        assert task.support is not None and task.query is not None
        for index in range(len(task.support.y)):
            x, y, queries, truth = _arrays(task.support, task.query, index)
            for name, method in methods.items():
                found = method(x, y, queries)
                scores[name].append(
                    float((found == truth).mean()) if classes else _measured(error, metric, found, truth)
                )
    ours = report.scores.query[metric][:, -1].astype(np.float64)
    return {name: figures_of(metric, np.array(values), ours) for name, values in scores.items()}


def metric_of(report: Report, config: RunConfig) -> str:
    """The metric that baselines of the report's tasks are compared by: accuracy, the deciding one of a shipped
    regression, or the squared error.

    Raises:
        UsageError: the report does not have it.
    """
    shipped = not is_own(config.objective.name) and report.decides in report.scores.query
    metric = "accuracy" if "ways" in report.facts else str(report.decides) if shipped else "mse"
    if metric not in report.scores.query:
        raise UsageError(
            f"baselines are compared by {metric}, which objective {config.objective.name} does not measure; "
            f"it measures {', '.join(report.scores.query)}"
        )
    return metric


def nearest_neighbour(x: NDArray[np.float32], y: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[Any]:
    """Label or value of the support example with the largest cosine to the query."""
    return np.asarray(y[(_unit(queries) @ _unit(x).T).argmax(1)])


def class_means(x: NDArray[np.float32], y: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[Any]:
    """Label of the class whose mean support example is nearest."""
    labels = np.unique(y)
    means = np.stack([x[y == label].mean(0) for label in labels])
    distances = ((queries[:, None] - means[None]) ** 2).sum(-1)
    return np.asarray(labels[distances.argmin(1)])


def logistic_regression(x: NDArray[np.float32], y: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[Any]:
    """Multinomial logistic regression on the support set (penalty 1/2 on each squared weight, free intercept)."""
    labels, numbers = np.unique(y, return_inverse=True)
    features, wanted = torch.tensor(x, dtype=torch.float64), torch.tensor(numbers)
    weight = torch.zeros(len(labels), x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(labels), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        logits = features @ weight.T + bias
        value = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum") + weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    logits = torch.tensor(queries, dtype=torch.float64) @ weight.detach().T + bias.detach()
    return np.asarray(labels[logits.argmax(1).numpy()])


def support_mean(x: NDArray[np.float32], y: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[Any]:
    """Mean support target, whatever the query."""
    return np.broadcast_to(y.mean(0), (len(queries), *y.shape[1:]))


def ridge(x: NDArray[np.float32], y: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[Any]:
    """Ridge regression on the support set (penalty 1, free intercept)."""
    centre, level = x.mean(0), y.mean(0)
    centred = (x - centre).astype(np.float64)
    weights = np.linalg.solve(centred.T @ centred + np.eye(x.shape[1]), centred.T @ (y - level))
    return np.asarray((queries - centre) @ weights + level)


CLASSIFIERS: dict[str, Predict] = {
    "1-nearest neighbour": nearest_neighbour,
    "class means": class_means,
    "logistic regression": logistic_regression,
}
REGRESSORS: dict[str, Predict] = {"support mean": support_mean, "ridge regression": ridge}


def _methods(classes: bool, report: Report) -> dict[str, Predict]:
    if not report.facts["shots"]:
        return {}  # they have nothing to go by
    return CLASSIFIERS if classes else REGRESSORS


def _known_optimum(source: TaskSource, metric: str) -> dict[str, Predict]:
    """Of generated customers, as they are stored, the answer with the smallest squared error is known."""
    if not isinstance(source, ParquetSource) or not source.store.manifest.source.startswith(GENERATED):
        return {}
    known = metric == "mse" and targets_of(source) is None and not source.config.transform
    return {"Bayes optimum": bayes_optimum} if known else {}


def _arrays(support: Batch, query: Batch, index: int) -> tuple[NDArray[Any], ...]:
    """``x`` (N, D), ``y`` (N,), queries (M, D) and their truth (M,) of a task of the batch.

    Examples without weight are padding and left out (an empty support set is one such row). Several inputs stand side
    by side; of tokens it is counted how often an example has each that the support set has.
    """
    seen = slice(None) if support.weight is None else support.weight[index].numpy() > 0
    x, queries = _inputs(support, index), _inputs(query, index)
    x = {name: values[seen] for name, values in x.items()}
    if IDS in x:
        known = np.unique(x[IDS][x[MASK] > 0])
        found = [_token_counts(half[IDS], half[MASK], known) for half in (x, queries)]
    else:
        found = [np.concatenate(list(half.values()), 1) for half in (x, queries)]
    return (
        found[0].astype(np.float32),
        support.y[index].numpy()[seen],
        found[1].astype(np.float32),
        query.y[index].numpy(),
    )


def _token_counts(ids: NDArray[Any], mask: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """(N, C): how often an example of (N, L) has each of the ``known`` tokens (C,)."""
    return np.asarray(((ids[..., None] == known) & (mask[..., None] > 0)).sum(1))


def _inputs(batch: Batch, index: int) -> dict[str, NDArray[Any]]:
    leaves = batch.x if isinstance(batch.x, dict) else {"": batch.x}
    return {name: leaf.flatten(2)[index].numpy() for name, leaf in leaves.items()}


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(norms > 0, norms, 1)).astype(np.float32)


def _measured(objective: Objective, metric: str, found: NDArray[Any], truth: NDArray[Any]) -> float:
    outputs = torch.from_numpy(np.array(found, np.float64))
    batch = Batch(outputs, torch.from_numpy(np.array(truth, np.float64)))
    return float({"loss": objective.loss(outputs, batch), **objective.metrics(outputs, batch)}[metric])


def figures_of(metric: str, values: NDArray[np.float64], ours: NDArray[np.float64]) -> dict[str, Any]:
    """Mean and interval of a baseline's ``values`` (N,), of the paired difference of ``ours`` (N,) to them, and what
    that says of the model."""
    mean, half = mean_ci95(values)
    difference, spread = mean_ci95(ours - values)
    found = verdict(values, ours, maximise=metric == "accuracy")
    return {
        metric: mean,
        "ci95": half,
        "difference": difference,
        "difference_ci95": spread,
        "verdict": found,
        "beats_model": found == BEATEN,
    }


def verdict(values: NDArray[np.float64], ours: NDArray[np.float64], *, maximise: bool) -> str:
    """What the paired 95 % interval says of the model with scores ``ours`` (N,) and a baseline with ``values`` (N,).

    >>> worse, better = np.array([3.0, 5.0, 4.0]), np.array([1.0, 3.0, 2.0])
    >>> verdict(worse, better, maximise=False), verdict(worse, worse, maximise=False)
    ('beats', 'cannot be told apart from')
    """
    difference, half = mean_ci95(ours - values)
    if not math.isfinite(difference):  # a side with tasks that are not finite loses to one without
        sound = [bool(np.isfinite(scores).all()) for scores in (ours, values)]
        return UNDECIDED if sound[0] == sound[1] else BEATS if sound[0] else BEATEN
    if not abs(difference) > half:
        return UNDECIDED
    return BEATS if (difference > 0) == maximise else BEATEN


def verdict_line(found: Mapping[str, Mapping[str, Any]], num_tasks: int) -> str:
    """All verdicts on baselines in a line; ``found`` as `run_baselines` gives them."""
    said = []
    for what in VERDICTS:
        names = [name for name, figures in found.items() if figures["verdict"] == what]
        if names:
            said.append(f"{what} {' / '.join(names)}")
    return f"verdict: the model {'; '.join(said)} (paired 95 % intervals over {num_tasks} tasks)"
