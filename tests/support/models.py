"""Networks of a user's own, for ``model.factory``; importable in the workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from metadist.config.load import load_config
from metadist.sources import build_source
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


class Picky(nn.Module):
    """A user's net with a bug: it raises on the task whose inputs begin with ``value``, unless a file is there.

    It looks at a value, so ``engine.tasks_axis`` must be ``loop``.
    """

    def __init__(self, spec: TaskSpec, value: float, unless: str) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(spec.input_shape[0], 6), nn.Linear(6, spec.outputs)
        self.value, self.unless = value, unless

    def forward(self, x: Tensor) -> Tensor:
        if x.flatten()[0].item() == self.value and not Path(self.unless).exists():
            raise ValueError(f"this net does not like {self.value}")
        return cast(Tensor, self.head(torch.tanh(self.body(x))))


def picky(spec: TaskSpec, *, value: float, unless: str) -> nn.Module:
    return Picky(spec, value, unless)


def picky_about(
    recipe: Mapping[str, Any], location: str | None, *, step: int, index: int, unless: str
) -> dict[str, Any]:
    """The recipe with a net that raises on training task ``index`` of ``step``, wherever that runs."""
    task = build_source(load_config(recipe), location).batch("train", step, index, index + 1)
    assert task.support is not None and isinstance(task.support.x, Tensor)
    value = task.support.x.flatten()[0].item()
    options = {"value": value, "unless": unless}
    engine = {**recipe.get("engine", {}), "tasks_axis": "loop"}
    return {**recipe, "model": {"factory": "tests.support.models:picky", "options": options}, "engine": engine}


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


class Dropping(nn.Module):
    """A smooth net that drops twice by one layer of torch's, after its inputs' layer and after the next."""

    def __init__(self, inputs: int, outputs: int, p: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 6), nn.Linear(6, 6)
        self.drop = nn.Dropout(p)
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(torch.tanh(self.first(x)))
        return cast(Tensor, self.head(self.drop(torch.tanh(self.second(hidden)))))


def dropping(spec: TaskSpec, *, p: float = 0.5) -> nn.Module:
    return Dropping(spec.input_shape[0], spec.outputs, p)
