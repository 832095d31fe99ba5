"""What happens to a task's adapted leaves, given their slope: the optimizers of the inner loop, as pure functions.

They differentiate: an unrolled or walked-back inner loop goes through their state as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metadist.config import InnerOptimizerConfig
from metadist.parameters import Params

Slots = dict[str, Params]
Rate = Callable[[str, Tensor], Tensor | float]
"""(leaf, inner step) -> its learning rate, a scalar or of the leaf's shape."""

ROOT_FLOOR = 1e-16  # under a root: d sqrt(0) is infinite, and the gradient of a unit at rest is 0


class InnerState(NamedTuple):
    """s[k]: where a task's inner loop is. Every leaf is a float and is differentiated.

    Attributes:
        params: The adapted leaves.
        slots: What the optimizer remembers of each, such as its momentum.
    """

    params: Params
    slots: Slots


class InnerOptimizer(NamedTuple):
    """``begin`` gives the slots before the first step; ``update`` is (state, slope, rate, step) -> the next state."""

    begin: Callable[[Params], Slots]
    update: Callable[[InnerState, Params, Rate, Tensor], InnerState]


def build_optimizer(settings: InnerOptimizerConfig) -> InnerOptimizer:
    """The configured optimizer; the slope that it sees is clipped first, and then decayed towards zero."""
    inner = adam(settings.betas, settings.eps) if settings.name == "adam" else sgd(settings.momentum, settings.nesterov)

    def update(state: InnerState, slope: Params, rate: Rate, step: Tensor) -> InnerState:
        if settings.clip_norm is not None:
            slope = clipped(slope, settings.clip_norm)
        if settings.weight_decay:
            slope = {name: leaf + settings.weight_decay * state.params[name] for name, leaf in slope.items()}
        return inner.update(state, slope, rate, step)

    return InnerOptimizer(inner.begin, update)


def sgd(momentum: float = 0.0, nesterov: bool = False) -> InnerOptimizer:
    """Gradient descent; with ``momentum`` as in ``torch.optim.SGD`` (Sutskever et al., ICML 2013)."""

    def begin(params: Params) -> Slots:
        return {"momentum": _zeros(params)} if momentum else {}

    def update(state: InnerState, slope: Params, rate: Rate, step: Tensor) -> InnerState:
        slots: Slots = {}
        if momentum:
            speed = {name: momentum * state.slots["momentum"][name] + leaf for name, leaf in slope.items()}
            slots = {"momentum": speed}
            slope = {name: leaf + momentum * speed[name] for name, leaf in slope.items()} if nesterov else speed
        return InnerState({name: leaf - rate(name, step) * slope[name] for name, leaf in state.params.items()}, slots)

    return InnerOptimizer(begin, update)


def adam(betas: tuple[float, float], eps: float) -> InnerOptimizer:
    """Adam (Kingma and Ba, ICLR 2015), with 1e-16 under the root so that it has a second derivative everywhere."""
    first, second = betas

    def begin(params: Params) -> Slots:
        return {"mean": _zeros(params), "square": _zeros(params)}

    def update(state: InnerState, slope: Params, rate: Rate, step: Tensor) -> InnerState:
        old = state.slots
        mean = {name: first * old["mean"][name] + (1 - first) * leaf for name, leaf in slope.items()}
        square = {name: second * old["square"][name] + (1 - second) * leaf * leaf for name, leaf in slope.items()}

        def moved(name: str, leaf: Tensor) -> Tensor:
            count = (step + 1).to(leaf.dtype)
            size = torch.sqrt(square[name] / (1 - second**count) + ROOT_FLOOR) + eps
            return leaf - rate(name, step) * (mean[name] / (1 - first**count)) / size

        return InnerState(
            {name: moved(name, leaf) for name, leaf in state.params.items()}, {"mean": mean, "square": square}
        )

    return InnerOptimizer(begin, update)


def clipped(slope: Params, limit: float) -> Params:
    """``slope``, shortened to the length ``limit`` over all leaves where it is longer."""
    length = torch.sqrt(torch.stack([(leaf * leaf).sum() for leaf in slope.values()]).sum() + ROOT_FLOOR**2)
    factor = limit / length.clamp(min=limit)
    return {name: factor * leaf for name, leaf in slope.items()}


def _zeros(params: Params) -> Params:
    return {name: torch.zeros_like(leaf) for name, leaf in params.items()}
