"""Networks of a user's own, for ``model.factory``; importable in the workers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from metadist.tasks import TaskSpec


class SmoothNorm(nn.Module):
    """Linear, batch norm, tanh, linear: twice differentiable everywhere, with torch's own norm layer."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Linear(inputs, width, bias=False)
        self.norm = nn.BatchNorm1d(width, track_running_stats=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(torch.tanh(self.norm(self.body(x.flatten(1))))))


def smooth(spec: TaskSpec, *, width: int = 5) -> nn.Module:
    return SmoothNorm(spec.input_shape[0], spec.outputs, width)


class Fragile(nn.Module):
    """A net whose outputs are NaN where an input is above a limit: some tasks have no finite gradient."""

    def __init__(self, spec: TaskSpec, limit: float) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(spec.input_shape[0], 6), nn.Linear(6, spec.outputs)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        outputs = cast(Tensor, self.head(torch.tanh(self.body(x))))
        return outputs + torch.where(x.max() > self.limit, torch.nan, 0.0)


def fragile(spec: TaskSpec, *, limit: float) -> nn.Module:
    return Fragile(spec, limit)


class PartlyFrozen(nn.Module):
    """A net that itself marks a leaf as not learned and holds a buffer."""

    scale: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, 6)
        self.mark = nn.Parameter(torch.linspace(0.5, 1.5, 6), requires_grad=False)
        self.register_buffer("scale", torch.linspace(1.0, 2.0, 6))
        self.middle = nn.Linear(6, 6)
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.encoder(x)) * self.scale * self.mark
        return cast(Tensor, self.head(torch.tanh(self.middle(hidden))))


def partly_frozen(spec: TaskSpec) -> nn.Module:
    return PartlyFrozen(spec.input_shape[0], spec.outputs)
