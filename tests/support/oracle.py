"""The independent mathematics: nets written as formulas of their leaves, and a plain autograd loop over them.

Nothing here uses ``torch.func`` or anything of metadist, so that an error there cannot hide here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import grad

Weights = dict[str, Tensor]
Statistics = list[tuple[Tensor, Tensor]]
Net = Callable[[Weights, Tensor, Statistics | None], tuple[Tensor, Statistics]]
"""(weights, x, statistics) -> (outputs, statistics of the batch); given statistics are used instead of the batch's."""

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "softplus": F.softplus}
EPS = 1e-5


def mlp(activation: str, layers: int, *, head: bool) -> Net:
    """Layers ``body.0``, ``body.2``, ... and a head."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
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


def adapted(
    net: Net, phi: Weights, x: Tensor, y: Tensor, *, steps: int, lr: float, adapt: tuple[str, ...], second_order: bool
) -> tuple[Weights, Weights]:
    """Weights after gradient descent on the support loss, and the sum of the gradients on the way."""
    names = [name for name in phi if any(fnmatchcase(name, pattern) for pattern in adapt)]
    weights, way = dict(phi), {name: torch.zeros_like(leaf) for name, leaf in phi.items()}
    for _ in range(steps):
        value = loss(net(weights, x, None)[0], y)
        slopes = grad(value, [weights[name] for name in names], create_graph=second_order)
        for name, slope in zip(names, slopes, strict=True):
            weights[name] = weights[name] - lr * slope
            way[name] = way[name] + slope.detach()
    return weights, way


def direction(
    rule: str,
    net: Net,
    params: Weights,
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    *,
    steps: int,
    lr: float,
    adapt: tuple[str, ...],
    inductive: bool,
) -> Weights:
    """The direction of one task by the ``rule`` of its row: second order, first order, path, prototypes."""
    phi = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
    if rule == "prototypes":
        value = _prototype_loss(net, phi, support, query, inductive=inductive)
    else:
        weights, way = adapted(net, phi, *support, steps=steps, lr=lr, adapt=adapt, second_order=rule == "second order")
        if rule == "path":
            return way
        statistics = net(weights, support[0], None)[1] if inductive else None
        value = loss(net(weights, query[0], statistics or None)[0], query[1])
    slopes = grad(value, list(phi.values()), allow_unused=True)
    return {
        name: torch.zeros_like(phi[name]) if slope is None else slope for name, slope in zip(phi, slopes, strict=True)
    }


def _prototype_loss(
    net: Net, phi: Weights, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], *, inductive: bool
) -> Tensor:
    embedded, statistics = net(phi, support[0], None)
    prototypes = torch.stack([embedded[support[1] == label].mean(0) for label in support[1].unique()])
    queries = net(phi, query[0], (statistics or None) if inductive else None)[0]
    distances = torch.stack([((queries - prototype) ** 2).sum(1) for prototype in prototypes], dim=1)
    return loss(-distances, query[1])
