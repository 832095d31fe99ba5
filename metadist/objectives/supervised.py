"""Classification and regression: mean loss and metrics of one task's examples, weighted where weights are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def classification(label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy in nats (a mean, see the note on the inner rate in ``docs/recipes.md``); accuracy in 0..1.

    With ``label_smoothing`` e the wanted distribution is 1 - e on the label plus e spread over all classes (Szegedy et
    al. 2016).
    """

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        found = F.cross_entropy(outputs, batch.y, reduction="none", label_smoothing=label_smoothing)
        return mean_over_examples(found, batch.weight)

    def metrics(outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        hits = (outputs.argmax(-1) == batch.y).to(outputs.dtype)
        return {"accuracy": mean_over_examples(hits, batch.weight)}

    return Objective(loss, metrics)


def regression(
    loss: str = "mse", *, delta: float = 1.0, quantile: float = 0.5, metrics: Sequence[str] = ("mse",)
) -> Objective:
    """A mean over examples and target columns of a function of the error e = target - output.

    Args:
        loss: ``mse``: e^2. ``mae``: |e|. ``huber``: e^2 / 2 up to ``delta``, then delta * (|e| - delta / 2).
            ``quantile``: quantile * e above zero, (quantile - 1) * e below (Koenker and Bassett 1978); also called
            pinball.
        delta: Of huber.
        quantile: Share of the targets that shall lie below the output.
        metrics: Which to measure: ``mse``, ``mae``, ``pinball``.
    """

    def huber(error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size <= delta, error**2 / 2, delta * (size - delta / 2))

    def pinball(error: Tensor) -> Tensor:
        return torch.where(error >= 0, quantile * error, (quantile - 1) * error)

    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "mse": torch.square,
        "mae": torch.abs,
        "huber": huber,
        "quantile": pinball,
        "pinball": pinball,
    }

    def mean_of(form: str, outputs: Tensor, batch: Batch) -> Tensor:
        return mean_over_examples(forms[form](batch.y - outputs).mean(-1), batch.weight)

    def task_loss(outputs: Tensor, batch: Batch) -> Tensor:
        return mean_of(loss, outputs, batch)

    def measured(outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {name: mean_of(name, outputs, batch) for name in metrics}

    return Objective(task_loss, measured)
