"""Classification and regression: mean loss and metrics of one task's examples, weighted where weights are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.tasks import Batch


class Objective(NamedTuple):
    """What one task minimises.

    Attributes:
        loss: (outputs, batch) -> scalar, the mean over examples.
        metrics: (outputs, batch) -> named scalars, each a mean over examples; no gradient is taken of them.
    """

    loss: Callable[[Tensor, Batch], Tensor]
    metrics: Callable[[Tensor, Batch], Mapping[str, Tensor]]


def mean_over_examples(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (N,) values; with weights the weighted mean, not the mean of weighted values.

    Without an example, or without one that has weight, it is 0, and so is its gradient: an empty support set leaves
    the start as it is.
    """
    if weight is None:
        return values.mean() if len(values) else values.sum()
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))


def classification() -> Objective:
    """Cross-entropy in nats (a mean, see the note on the inner rate in ``docs/recipes.md``); accuracy in 0..1."""

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        return mean_over_examples(F.cross_entropy(outputs, batch.y, reduction="none"), batch.weight)

    def metrics(outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        hits = (outputs.argmax(-1) == batch.y).to(outputs.dtype)
        return {"accuracy": mean_over_examples(hits, batch.weight)}

    return Objective(loss, metrics)


def regression() -> Objective:
    """Mean squared error over examples and target columns."""

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        return mean_over_examples(((outputs - batch.y) ** 2).mean(-1), batch.weight)

    def metrics(outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"mse": loss(outputs, batch)}

    return Objective(loss, metrics)
