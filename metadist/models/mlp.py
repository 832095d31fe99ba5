"""A multilayer perceptron (Finn et al. 2017, section 5.1 use two hidden layers of 40 units)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from metadist.tasks import TaskSpec

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "softplus": nn.Softplus, "identity": nn.Identity}


class MLP(nn.Module):
    """Fully connected layers; leaves ``body.*``, ``head.*`` and ``context``. (N, ...) to (N, outputs)."""

    maskable = True

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int], activation: str, context: int = 0) -> None:
        super().__init__()
        widths = [inputs + context, *hidden]
        self.context = nn.Parameter(torch.zeros(context)) if context else None
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.body = nn.Sequential(*layers)
        self.head: nn.Module = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.context is not None:
            x = torch.cat([x, self.context.expand(len(x), -1)], 1)
        out: Tensor = self.head(self.body(x))
        return out


def build(
    spec: TaskSpec,
    *,
    hidden: Sequence[int] = (40, 40),
    activation: Literal["relu", "tanh", "gelu", "softplus", "identity"] = "relu",
    truncated_normal: bool = False,
    context: int = 0,
    embedding: bool = False,
) -> nn.Module:
    """The MLP for ``spec``. ``truncated_normal`` draws weights from N(0, 0.01) cut at two deviations and zero
    biases, as the sinusoid experiment of the MAML paper does; else torch's own initialisation. ``context``
    values, zero at first, are further inputs (CAVIA adapts them alone). ``embedding`` leaves the head
    out (ProtoNet)."""
    size = 1
    for axis in spec.input_shape:
        size *= axis
    net = MLP(size, spec.outputs, hidden, activation, context)
    if truncated_normal:
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
                torch.nn.init.zeros_(layer.bias)
    if embedding:
        net.head = nn.Identity()
    return net
