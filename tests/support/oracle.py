"""The independent mathematics: nets written as formulas of their leaves. `tests.support.loops` adapts them.

Nothing here uses ``torch.func`` or anything of metadist, so that an error there cannot hide here as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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


def conv4(form: str, film: str, *, head: bool) -> Net:
    """Four blocks; the stride form averages its last map before the head. A context
    scales and shifts the third block or the features."""

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
            if film == "block" and "context" in weights and block == 2:
                scale, shift = _film(weights)
                x = x * (1 + scale[:, None, None]) + shift[:, None, None]
        if not head:
            return x.flatten(1), found
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if form == "stride" else x.flatten(1)
        if film == "features" and "context" in weights:
            scale, shift = _film(weights)
            x = x * (1 + scale) + shift
        return F.linear(x, weights["head.weight"], weights["head.bias"]), found

    return net


def _film(weights: Weights) -> tuple[Tensor, ...]:
    return (weights["film.weight"] @ weights["context"] + weights["film.bias"]).chunk(2)


def resnet12(*, head: bool) -> Net:
    """Four residual blocks of three convolutions; each has four norms, the shortcut's last."""

    def net(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        found: Statistics = []

        def normed(block: int, x: Tensor, conv: str, norm: str, padding: int) -> Tensor:
            x = F.conv2d(x, weights[f"blocks.{block}.{conv}.weight"], padding=padding)
            x, mine = _norm(weights, f"blocks.{block}.{norm}", x, statistics, len(found))
            found.append(mine)
            return x

        for block in range(4):
            y = x
            for place in range(3):
                y = normed(block, y if place == 0 else _leaky(y), f"convs.{place}", f"norms.{place}", 1)
            y = _leaky(y + normed(block, x, "shortcut.0", "shortcut.1", 0))
            x = F.max_pool2d(y, 2)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return (F.linear(x, weights["head.weight"], weights["head.bias"]) if head else x), found

    return net


def _leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


def gru(layers: int, *, head: bool) -> Net:
    """Example by example, place by place, gate by gate."""

    def states(weights: Weights, layer: int, inputs: list[Tensor]) -> list[Tensor]:
        w, u = (weights[f"encoder.cells.{layer}.{part}.weight"].chunk(3) for part in ("input", "recurrent"))
        b, c = (weights[f"encoder.cells.{layer}.{part}.bias"].chunk(3) for part in ("input", "recurrent"))
        h, found = torch.zeros_like(c[0]), []
        for v in inputs:
            r, z = (1 / (1 + torch.exp(-(w[i] @ v + b[i] + u[i] @ h + c[i]))) for i in (0, 1))
            h = (1 - z) * torch.tanh(w[2] @ v + b[2] + r * (u[2] @ h + c[2])) + z * h
            found.append(h)
        return found

    def one(weights: Weights, sequence: list[Tensor]) -> Tensor:
        for layer in range(layers):
            sequence = states(weights, layer, sequence)
        return torch.stack(sequence).mean(0)

    return _of_sequences(one, head)


def transformer(layers: int, heads: int, *, head: bool) -> Net:
    """Example by example and head by head."""

    def one(weights: Weights, sequence: list[Tensor]) -> Tensor:
        width = len(sequence[0])
        size = width // heads
        waves = [[float(i) / 10_000 ** (2 * (j // 2) / width) for j in range(width)] for i in range(len(sequence))]
        waves = [[math.sin(a) if j % 2 == 0 else math.cos(a) for j, a in enumerate(row)] for row in waves]
        x = torch.stack(sequence) + torch.tensor(waves, dtype=sequence[0].dtype)
        for layer in range(layers):
            leaf = {name.removeprefix(f"encoder.blocks.{layer}."): value for name, value in weights.items()}
            y = _layer_norm(leaf, "attention_norm", x)
            query, key, value = (y @ part.T for part in leaf["attention.inputs.weight"].chunk(3))
            mixed = []
            for cut in (slice(a, a + size) for a in range(0, width, size)):
                likeness = torch.exp(query[:, cut] @ key[:, cut].T / size**0.5)
                mixed.append(likeness / likeness.sum(1, keepdim=True) @ value[:, cut])
            x = x + F.linear(torch.cat(mixed, 1), leaf["attention.output.weight"], leaf["attention.output.bias"])
            y = F.linear(_layer_norm(leaf, "mlp_norm", x), leaf["mlp.0.weight"], leaf["mlp.0.bias"])
            y = y * (1 + torch.erf(y / 2**0.5)) / 2
            x = x + F.linear(y, leaf["mlp.2.weight"], leaf["mlp.2.bias"])
        return _layer_norm(weights, "encoder.final", x).mean(0)

    return _of_sequences(one, head)


def _of_sequences(one: Callable[[Weights, list[Tensor]], Tensor], head: bool) -> Net:
    """The net of a formula for one sequence without padding. Inputs: (N, L, D), or a dict of ids and mask (N, L)."""

    def net(weights: Weights, x: Any, statistics: Statistics | None) -> tuple[Tensor, Statistics]:
        if isinstance(x, dict):
            rows = [
                [weights["embed.weight"][i] for i, counts in zip(ids, mask, strict=True) if counts]
                for ids, mask in zip(x["ids"].tolist(), x["mask"].tolist(), strict=True)
            ]
        else:
            rows = [[F.linear(v, weights["embed.weight"], weights["embed.bias"]) for v in row] for row in x]
        features = torch.stack([one(weights, row) for row in rows])
        return (F.linear(features, weights["head.weight"], weights["head.bias"]) if head else features), []

    return net


def _layer_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    unit = centred / torch.sqrt((centred**2).mean(1, keepdim=True) + EPS)
    return unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]


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
