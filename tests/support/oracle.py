"""The independent mathematics: nets written as formulas of their leaves. `tests.support.loops` adapts them.

Nothing here uses ``torch.func`` or anything of metadist, so that an error there cannot hide here as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]
Statistics = list[tuple[Tensor, Tensor]]
Net = Callable[[Weights, Tensor, Statistics | None], tuple[Tensor, Statistics]]
"""(weights, x, statistics) -> (outputs, statistics of the batch); given statistics are used instead of the batch's."""

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "softplus": F.softplus}
EPS = 1e-5


def mlp(activation: str, layers: int, *, head: bool) -> Net:
    """Layers ``body.0``, ``body.2``, ... and a head; a context, where there is one, is further inputs."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        if "context" in weights:
            x = torch.cat([x, torch.stack([weights["context"]] * len(x))], 1)
        for layer in range(layers):
            x = ACTIVATIONS[activation](x @ weights[f"body.{2 * layer}.weight"].T + weights[f"body.{2 * layer}.bias"])
        return (x @ weights["head.weight"].T + weights["head.bias"] if head else x), []

    return net


def norm_tanh() -> Net:
    """``tests.support.models.SmoothNorm``."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        x = x @ weights["body.weight"].T
        x, found = _norm(weights, "norm", x, statistics, 0)
        return torch.tanh(x) @ weights["head.weight"].T + weights["head.bias"], [found]

    return net


def conv4(form: str, *, head: bool) -> Net:
    """Four blocks; the stride form averages its last map before the head."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        found = []
        for block in range(4):
            stride = 2 if form == "stride" else 1
            x = F.conv2d(x, weights[f"blocks.{block}.conv.weight"], stride=stride, padding=1)
            x, mine = _norm(weights, f"blocks.{block}.norm", x, statistics, block)
            found.append(mine)
            x = torch.relu(x)
            if form == "pool":
                x = F.max_pool2d(x, 2)
            if "context" in weights and block == 2:
                scale, shift = (weights["film.weight"] @ weights["context"] + weights["film.bias"]).chunk(2)
                x = x * (1 + scale[:, None, None]) + shift[:, None, None]
        if not head:
            return x.flatten(1), found
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if form == "stride" else x.flatten(1)
        return F.linear(x, weights["head.weight"], weights["head.bias"]), found

    return net


def _norm(
    weights: Weights, name: str, x: Tensor, statistics: Statistics | None, layer: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Torch's own batch norm on the batch, or the formula on given statistics."""
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    axes = [axis for axis in range(x.dim()) if axis != 1]
    batch = (x.mean(axes), x.var(axes, unbiased=False))
    if statistics is None:
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=EPS), batch
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, var = statistics[layer]
    unit = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + EPS)
    return unit * scale.reshape(shape) + shift.reshape(shape), batch


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of labels, mean squared error of values."""
    if y.dtype == torch.int64:
        return -(outputs[torch.arange(len(y)), y] - outputs.logsumexp(1)).sum() / len(y)
    return ((outputs - y) ** 2).sum() / outputs.numel()
