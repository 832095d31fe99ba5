"""Algorithms without an inner loop: a head is made of the support set's embedding, and its gradient is the query's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor
from torch.func import grad_and_value

from metadist.algorithms.interface import (
    QUERY_NOISE,
    Adapted,
    MetaAlgorithm,
    Metrics,
    keeps_statistics,
    needs,
    noise_of,
    predict_with,
    query_metrics,
)
from metadist.errors import ConfigError
from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context, Task


class MakeHead(Protocol):
    def __call__(self, meta: MetaParams, features: Tensor, support: Batch) -> Params: ...


def one_pass(
    model: Model,
    objective: Objective,
    *,
    init: Callable[[int], MetaParams],
    make_head: MakeHead,
    outputs: Callable[[Params, Tensor], Tensor],
    normalisation: str,
) -> MetaAlgorithm:
    """The algorithm of an embedding ``model``, a head of its support features and the head's outputs of features.

    Its predictor does not depend on the number of inner steps: ``path`` gives the same one for each.
    """
    if normalisation.startswith("per-step"):
        raise ConfigError(f"algorithm.normalisation {normalisation} needs inner steps, and this algorithm has none")

    def embed(meta: MetaParams, support: Batch, noise: Tensor | None) -> Adapted:
        features, statistics = model.forward(meta.model, support.x, None, noise)
        head = make_head(meta, features, support)
        return Adapted(meta.model, statistics if keeps_statistics(normalisation) else {}, head)

    def adapt(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> Adapted:
        return embed(meta, support, None)

    def path(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> list[Adapted]:
        return [embed(meta, support, None)] * (num_steps + 1)

    def predict(adapted: Adapted, x: Inputs) -> Tensor:
        return outputs(adapted.head, predict_with(model, adapted, x))

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        support, query = needs(task.support, "support"), needs(task.query, "query")

        def query_loss(meta: MetaParams) -> tuple[Tensor, Metrics]:
            adapted = embed(meta, support, noise_of(model, ctx, 0))
            found = outputs(adapted.head, predict_with(model, adapted, query.x, noise_of(model, ctx, QUERY_NOISE)))
            loss = objective.loss(found, query)
            return loss, query_metrics(objective, found, loss, query)

        gradient, (_, metrics) = grad_and_value(query_loss, has_aux=True)(meta)
        return gradient, metrics

    return MetaAlgorithm(init, adapt, path, predict, meta_gradient)
