"""What every meta-learning algorithm is: a few pure functions, written for one task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from metadist.inner.gradients import Lift, MetaGradient, Metrics
from metadist.models.functional import Inputs, Model
from metadist.noise import fold_in
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context

__all__ = ["Adapt", "Adapted", "MetaAlgorithm", "MetaGradient", "Metrics", "Path"]

QUERY_NOISE = -1  # inner step k drops by word k of a task's noise key, the query pass by this one


class Adapted(NamedTuple):
    """A task's predictor. Opaque: only the algorithm's ``predict`` reads it.

    Attributes:
        params: All leaves of the model that the outer or the inner loop learns, after adaptation.
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
        staged: Where the direction is computed in pieces that may be compiled apart: how to lift each piece to
            the meta-gradient of many tasks.
    """

    init: Callable[[int], MetaParams]
    adapt: Adapt
    path: Path
    predict: Callable[[Adapted, Inputs], Tensor]
    meta_gradient: MetaGradient
    staged: Callable[[Lift], MetaGradient] | None = None


def query_metrics(objective: Objective, outputs: Tensor, loss: Tensor, query: Batch) -> Metrics:
    """The task's query loss and metrics, each counted as one task."""
    one = loss.detach().new_ones(())
    named = {"loss": loss, **objective.metrics(outputs, query)}
    return {f"query_{name}": (value.detach(), one) for name, value in named.items()}


def keeps_statistics(normalisation: str) -> bool:
    """Whether queries are normalised by the support set's statistics."""
    return normalisation.endswith("inductive")


def support_statistics(model: Model, params: Params, support: Batch, normalisation: str) -> Params:
    """Statistics of the support pass where they are kept (inductive), else none."""
    return model.forward(params, support.x, None)[1] if keeps_statistics(normalisation) else {}


def predict_with(model: Model, adapted: Adapted, x: Inputs, noise: Tensor | None = None) -> Tensor:
    """Outputs under the support's statistics where they were kept, else under those of ``x`` itself."""
    return model.forward(adapted.params, x, adapted.statistics or None, noise)[0]


def noise_of(model: Model, ctx: Context, word: int | Tensor) -> Tensor | None:
    """The key of a pass in training, for a model that drops."""
    return fold_in(ctx.noise_key, word) if model.drops else None


def needs(batch: Batch | None, what: str) -> Batch:
    """The batch, or an error that names the half of the task that is missing."""
    if batch is None:
        raise ValueError(f"this algorithm needs the task's {what} set, and the task has none")
    return batch
