"""Batch normalisation without running statistics: of the batch at hand, or of the support set.

Batch statistics are *transductive*: a prediction depends on the other queries in the pass. With support
statistics (*inductive*) it does not: the adapted weights see the support set once more, the means and variances
of that pass are kept, and every query is normalised by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metadist.errors import ModelError

GROUPS = 8


class BatchNorm(nn.Module):
    """Batch normalisation over every axis but the channel axis 1, written out so that it differentiates twice.

    Args:
        channels: C.
        eps: Added to the variance.
        affine: Learn a scale and a shift a channel.

    ``given`` is fixed when the module is made: False normalises by the batch and writes its statistics to the
    buffers ``mean`` and ``var`` (C,); True normalises by these buffers.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True, given: bool = False) -> None:
        super().__init__()
        self.eps, self.given = eps, given
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("mean", torch.zeros(channels), persistent=False)
        self.register_buffer("var", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same shape."""
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        if self.given:
            mean, var = self.mean, self.var
            centred = x - mean.reshape(shape)
        else:
            mean = x.mean(axes)
            centred = x - mean.reshape(shape)
            var = (centred * centred).mean(axes)
            self.mean, self.var = mean, var
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        out = centred * scale.reshape(shape)
        return out if self.bias is None else out + self.bias.reshape(shape)


def norm_layer(name: str, channels: int) -> nn.Module:
    """The normalisation of ``channels`` maps by name: ``batch``, ``group``, ``layer`` (all of one image), ``none``.

    Raises:
        ModelError: there is no such normalisation.
    """
    layers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: BatchNorm(channels),
        "group": lambda: nn.GroupNorm(math.gcd(channels, GROUPS), channels),
        "layer": lambda: nn.GroupNorm(1, channels),
        "none": nn.Identity,
    }
    if name not in layers:
        raise ModelError(f"norm {name!r} is not known; use one of {', '.join(layers)}")
    return layers[name]()


def keeps_running_statistics(module: nn.Module) -> list[str]:
    """Names of layers that keep running statistics across batches."""
    return [
        name
        for name, layer in module.named_modules()
        if getattr(layer, "track_running_stats", False) and getattr(layer, "running_mean", None) is not None
    ]


def norms(module: nn.Module) -> dict[str, BatchNorm]:
    """The `BatchNorm` layers of ``module`` by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BatchNorm)}
