"""Prototypical networks.

Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017. The model embeds; a class's
prototype is the mean of its support embeddings; the outputs are negative squared Euclidean distances.

Differs from the paper: normalisation is a choice, and ways are the same in training and evaluation by default.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad_and_value

from metadist.algorithms.interface import Adapted, MetaAlgorithm, Metrics, needs, predict_with, query_metrics
from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams
from metadist.tasks import Batch, Context, Task


def protonet(model: Model, objective: Objective, *, ways: int, normalisation: str) -> MetaAlgorithm:
    """ProtoNet for an embedding ``model`` of any output width.

    Its predictor does not depend on the number of inner steps: ``path`` gives the same one for each.
    """

    def init(seed: int) -> MetaParams:
        return MetaParams(model.initial(seed), {})

    def adapt(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> Adapted:
        embedded, statistics = model.forward(meta.model, support.x, None)
        labels = torch.arange(ways, device=support.y.device)
        belongs = (support.y[:, None] == labels).to(embedded.dtype)  # (S, ways); F.one_hot cannot be vmapped
        if support.weight is not None:
            belongs = belongs * support.weight[:, None]
        prototypes = (belongs.T @ embedded) / belongs.sum(0)[:, None]
        return Adapted(meta.model, statistics if normalisation == "inductive" else {}, {"prototypes": prototypes})

    def path(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> list[Adapted]:
        return [adapt(meta, support, ctx, num_steps=0)] * (num_steps + 1)

    def predict(adapted: Adapted, x: Inputs) -> Tensor:
        embedded = predict_with(model, adapted, x)
        return -torch.square(embedded[:, None, :] - adapted.head["prototypes"][None, :, :]).sum(-1)

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        support, query = needs(task.support, "support"), needs(task.query, "query")

        def query_loss(meta: MetaParams) -> tuple[Tensor, Metrics]:
            outputs = predict(adapt(meta, support, ctx, num_steps=0), query.x)
            loss = objective.loss(outputs, query)
            return loss, query_metrics(objective, outputs, loss, query)

        gradient, (_, metrics) = grad_and_value(query_loss, has_aux=True)(meta)
        return gradient, metrics

    return MetaAlgorithm(init, adapt, path, predict, meta_gradient)
