"""What every meta-learning algorithm is: a few pure functions, written for one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context, Task

Metrics = Mapping[str, tuple[Tensor, Tensor]]


class Adapted(NamedTuple):
    """A task's predictor. Opaque: only the algorithm's ``predict`` reads it.

    Attributes:
        params: All meta-learned leaves of the model, after adaptation.
        statistics: Support statistics of the normalisation layers (inductive), or empty (transductive).
        head: Whatever else the algorithm made of the support set, such as prototypes.
    """

    params: Params
    statistics: Params
    head: Params


class Adapt(Protocol):
    def __call__(self, meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> Adapted: ...


class Path(Protocol):
    def __call__(self, meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> list[Adapted]: ...


class MetaAlgorithm(NamedTuple):
    """A meta-learning algorithm for tasks of one shape.

    Attributes:
        init: seed -> what the outer loop learns.
        adapt: One task's support set to its predictor; the same function in training, evaluation and serving.
        path: The predictors after 0..num_steps inner steps, in one pass.
        predict: (adapted, x) -> outputs.
        meta_gradient: One task to (direction, metrics); the outer loop walks against the direction. Metrics are
            (sum, count) pairs.
    """

    init: Callable[[int], MetaParams]
    adapt: Adapt
    path: Path
    predict: Callable[[Adapted, Inputs], Tensor]
    meta_gradient: Callable[[MetaParams, Task, Context], tuple[MetaParams, Metrics]]


def query_metrics(objective: Objective, outputs: Tensor, loss: Tensor, query: Batch) -> Metrics:
    """The task's query loss and metrics, each counted as one task."""
    one = loss.detach().new_ones(())
    named = {"loss": loss, **objective.metrics(outputs, query)}
    return {f"query_{name}": (value.detach(), one) for name, value in named.items()}


def support_statistics(model: Model, params: Params, support: Batch, normalisation: str) -> Params:
    """Statistics of the support pass where they are kept (inductive), else none."""
    return model.forward(params, support.x, None)[1] if normalisation == "inductive" else {}


def predict_with(model: Model, adapted: Adapted, x: Inputs) -> Tensor:
    """Outputs under the support's statistics where they were kept, else under those of ``x`` itself."""
    return model.forward(adapted.params, x, adapted.statistics or None)[0]


def needs(batch: Batch | None, what: str) -> Batch:
    """The batch, or an error that names the half of the task that is missing."""
    if batch is None:
        raise ValueError(f"this algorithm needs the task's {what} set, and the task has none")
    return batch
