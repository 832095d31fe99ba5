"""Learning rates of the inner loop: one number, or learned by the outer loop.

``element``: a rate for each value (Meta-SGD: Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for
Few-Shot Learning", 2017). ``leaf-step``: a rate for each leaf and inner step (MAML++: Antoniou, Edwards and
Storkey, "How to train your MAML", ICLR 2019). ``leaf``: a rate for each leaf.

Learned rates begin at ``inner_lr`` (Meta-SGD draws them from 0.005..0.1). Beyond the number of steps of training
the last step's rate goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metadist.inner.optimizers import Rate
from metadist.parameters import MetaParams, Params

PREFIX = "rate."


def initial_rates(kind: str, params: Params, *, lr: float, num_steps: int) -> Params:
    """The learned rates of the adapted leaves ``params`` by name; none where ``kind`` is ``"none"``."""

    def shape(leaf: Tensor) -> tuple[int, ...]:
        return {"leaf": (), "leaf-step": (max(num_steps, 1),), "element": tuple(leaf.shape)}[kind]

    if kind == "none":
        return {}
    return {PREFIX + name: torch.full(shape(leaf), lr, dtype=leaf.dtype) for name, leaf in params.items()}


def rates_of(kind: str, lr: float) -> Callable[[MetaParams], Rate]:
    """How a leaf's rate at an inner step is looked up among the meta-parameters."""

    def bind(meta: MetaParams) -> Rate:
        def rate(name: str, step: Tensor) -> Tensor | float:
            return row(meta.inner[PREFIX + name], step) if kind == "leaf-step" else meta.inner[PREFIX + name]

        return (lambda name, step: lr) if kind == "none" else rate

    return bind


def row(table: Tensor, step: Tensor) -> Tensor:
    """The row of a table of inner steps; the last one where there are more steps than rows."""
    return table.index_select(0, step.clamp(max=len(table) - 1).reshape(1))[0]
