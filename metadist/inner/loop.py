"""The inner loop of one task: ``s[0] = start``, ``s[k+1] = update(s[k], slope of the inner loss at s[k])``.

Legend: phi the meta-parameters, s[k] the state after k steps, K inner steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad

from metadist.inner.optimizers import InnerState
from metadist.noise import fold_in, permutation
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context


class InnerLoop(NamedTuple):
    """An inner loop as pure functions of phi.

    Attributes:
        start: (phi, support, ctx) -> s[0].
        data: (support, ctx, k) -> the examples of step k; a constant to every derivative.
        loss: (phi, adapted leaves, data, ctx, k) -> scalar, what a step descends.
        update: (phi, s, slope, ctx, k) -> the next state.
        curved: Whether the slope is differentiated; without it (first order) it is a constant.
    """

    start: Callable[[MetaParams, Batch, Context], InnerState]
    data: Callable[[Batch, Context, Tensor], Batch]
    loss: Callable[[MetaParams, Params, Batch, Context, Tensor], Tensor]
    update: Callable[[MetaParams, InnerState, Params, Context, Tensor], InnerState]
    curved: bool


def step_number(k: int) -> Tensor:
    """k as data, so that one compilation of a step serves them all."""
    return torch.tensor(k)


def take_step(
    loop: InnerLoop, meta: MetaParams, state: InnerState, support: Batch, ctx: Context, k: Tensor
) -> InnerState:
    """s[k] to s[k+1]."""
    data = loop.data(support, ctx, k)
    slope = grad(loop.loss, argnums=1)(meta, state.params, data, ctx, k)
    if not loop.curved:
        slope = {name: leaf.detach() for name, leaf in slope.items()}
    return loop.update(meta, state, slope, ctx, k)


def unroll(loop: InnerLoop, meta: MetaParams, support: Batch, ctx: Context, num_steps: int) -> list[InnerState]:
    """s[0]..s[num_steps]; a derivative runs through all of them."""
    states = [loop.start(meta, support, ctx)]
    for k in range(num_steps):
        states.append(take_step(loop, meta, states[-1], support, ctx, step_number(k)))
    return states


def slices(batch_size: int | None) -> Callable[[Batch, Context, Tensor], Batch]:
    """How a step takes its examples: the whole support set, or ``batch_size`` of it, each pass in a new order.

    The order follows from the task's ``noise_key``. A set that is not a multiple leaves its rest out of that pass.
    """

    def whole(support: Batch, ctx: Context, k: Tensor) -> Batch:
        return support

    def some(support: Batch, ctx: Context, k: Tensor) -> Batch:
        size = len(support.y)
        if batch_size is None or batch_size >= size:
            return support
        turns = size // batch_size
        order = permutation(fold_in(ctx.noise_key, k // turns), size)
        places = order.index_select(0, (k % turns) * batch_size + torch.arange(batch_size, device=order.device))
        x = (
            {name: leaf[places] for name, leaf in support.x.items()}
            if isinstance(support.x, dict)
            else support.x[places]
        )
        return Batch(x, support.y[places], None if support.weight is None else support.weight[places])

    return whole if batch_size is None else some
