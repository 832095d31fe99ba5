"""One inner step of gradient descent on one task, and its unrolling."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.func import grad

from metadist.parameters import Params

Loss = Callable[[Params], Tensor]
Step = Callable[[Params], Params]


def sgd_step(loss: Loss, adapted: Params, lr: float, *, first_order: bool) -> Params:
    """``adapted - lr * grad loss(adapted)``. With ``first_order`` the gradient is a constant to the outer loop."""
    slope = grad(loss)(adapted)
    if first_order:
        slope = {name: leaf.detach() for name, leaf in slope.items()}
    return {name: leaf - lr * slope[name] for name, leaf in adapted.items()}


def unroll(step: Step, start: Params, num_steps: int) -> list[Params]:
    """States 0..num_steps, each made from the one before; the graph runs through all of them."""
    states = [start]
    for _ in range(num_steps):
        states.append(step(states[-1]))
    return states
