"""Whether the run's first tasks, and what an objective makes of them, are finite numbers that something can be learned
from; else what is the likely cause.

Legend: T tasks, N queries, D outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from metadist.config.presets import is_own
from metadist.errors import ConfigError, DataError
from metadist.models import Model
from metadist.objectives import Objective
from metadist.sources import ParquetSource
from metadist.tasks import Batch, Task, TaskSource
from metadist.transforms import Chain

ROWS = 65_536  # of a column that are looked at for the culprit


class Judged(NamedTuple):
    """What an objective says of a task's start.

    Attributes:
        outputs: (T, N, D) before any inner step.
        loss, metrics: (T,) each.
        slope: (T, N, D), the loss differentiated by the outputs.
    """

    outputs: Tensor
    loss: Tensor
    slope: Tensor
    metrics: dict[str, Tensor]


def judged(objective: Objective, outputs: Tensor, query: Batch) -> Judged:
    """For one task: every leaf without its T axis."""
    slope, loss = grad_and_value(lambda outputs: objective.loss(outputs, query))(outputs)
    return Judged(outputs, loss, slope, dict(objective.metrics(outputs, query)))


def check_finite(source: TaskSource, tasks: Task, own: str | None, *, drop: bool) -> None:
    """Refuse tasks whose inputs or targets are not finite: any of them, or (``drop``) all of them.

    Args:
        source: Where they come from.
        tasks: The run's first.
        own: The import path of a source of the user's own.
        drop: Whether the run leaves such tasks out.

    Raises:
        DataError: names the column of the store, or the shipped transform.
        ConfigError: names the transform or the source of the user's own.
    """
    for half, batch in (("support", tasks.support), ("query", tasks.query)):
        for part in ("x", "y") if batch is not None else ():
            found = getattr(batch, part)
            values = list(found.values()) if isinstance(found, dict) else [found]
            if not _refused(torch.stack([_finite(leaf) for leaf in values]).all(0), drop=drop):
                continue
            if isinstance(source, ParquetSource):
                raise _in_column(source, is_target=part == "y")
            who = f"tasks.source {own!r}" if own else "the tasks' source"
            raise ConfigError(f"{who} gives {half}.{part} that is not finite in batch('train', 0, 0, {len(values[0])})")


def check_judged(found: Judged, name: str, *, drop: bool) -> None:
    """Refuse an objective of the user's own that is not finite on finite outputs.

    Raises:
        ConfigError: names the objective, and its loss or metric.
    """
    sound = _finite(found.outputs)
    named = {f"metric {metric!r}": values for metric, values in found.metrics.items()}
    for what, values in {"loss": found.loss, "the gradient of its loss": found.slope, **named}.items():
        if _refused(_finite(values) | ~sound, drop=drop):
            bad = values[~torch.isfinite(values)][0].item()
            raise ConfigError(
                f"objective.name {name!r}: {what} is {bad} on the run's first tasks, though the model's outputs are "
                "finite; keep logarithms, roots and divisions away from zero (clamp, or add a small number inside)"
            )


def nothing_learned(model: Model, seed: int, tasks: Task, found: Judged) -> str:
    """Why no meta-learned leaf gets a gradient, as far as it shows."""
    what = "no meta-learned leaf gets a gradient other than zero on the run's first tasks, so nothing would be learned"
    breaks = ".detach(), .data, .item(), numpy and torch.no_grad() cut it off"
    if not bool(found.slope.any()):
        return f"{what}; the loss does not depend on the model's outputs ({breaks}; argmax and rounding have none)"
    assert tasks.query is not None
    x = tasks.query.x
    one = {name: leaf[0] for name, leaf in x.items()} if isinstance(x, dict) else x[0]
    slopes = grad(lambda params: model.forward(params, one)[0].sum())(model.initial(seed))
    if not any(bool(leaf.any()) for leaf in slopes.values()):
        return f"{what}; the model's outputs do not depend on its leaves ({breaks})"
    return f"{what}; loss and model each have a gradient, so look at meta_gradient and at algorithm.adapt"


def _in_column(source: ParquetSource, *, is_target: bool) -> DataError | ConfigError:
    """The column that holds what is not finite, or else the transform that makes it so."""
    column = str(source.columns[is_target])
    chain: Chain | None = source.chain
    if is_target:
        chain = None if source.targets is None else source.targets.chain
    values = source.split("train").arrays[column]
    bad = int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0
    if bad or chain is None:
        return DataError(
            f"column {column!r} of {source.location}: {bad} of {values.size} values of the split train are not finite, "
            "some of them in the run's first tasks; leave their rows out of the store, or fill them in"
        )
    step = chain.first_not_finite(values[None, :ROWS]) or " or ".join(map(repr, chain.names))
    text = f"{chain.key} {step!r} makes NaN or infinity of the finite values of column {column!r}"
    return ConfigError(f"{text}: see its apply") if is_own(step) else DataError(f"{text}; take another transform")


def _finite(values: Tensor) -> Tensor:
    """(T,): whether all of a task's values are."""
    return torch.isfinite(values).reshape(len(values), -1).all(1)


def _refused(finite: Tensor, *, drop: bool) -> bool:
    return not bool(finite.any() if drop else finite.all())
