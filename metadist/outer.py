"""The outer update: torch.optim on views of the flat vector, its schedule, and clipping of the reduced gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.config import OuterConfig, ScheduleConfig
from metadist.errors import ConfigError
from metadist.parameters import Layout, aligned, matching

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class Outer:
    """Owns the flat parameters (P,) and the optimizer's state while a run lasts.

    Neighbouring leaves with one learning rate are one view, so an ungrouped run steps one tensor.
    """

    def __init__(self, config: OuterConfig, layout: Layout, flat: NDArray[np.float32]) -> None:
        self.config, self.layout = config, layout
        self.flat = aligned(flat)
        groups = _groups(config, layout)
        views = [[self.flat[start:stop] for start, stop in spans] for _, spans in groups]
        arguments: list[dict[str, Any]] = [
            {"params": params, "lr": lr} for params, (lr, _) in zip(views, groups, strict=True)
        ]
        self._spans = [spans for _, spans in groups]
        self._views = views
        make: Any = OPTIMIZERS[config.optimizer]
        try:
            self.optimizer: torch.optim.Optimizer = make(
                arguments, lr=config.lr, foreach=False, fused=False, **config.options
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"outer.optimizer {config.optimizer} with outer.options {config.options}: {error}"
            ) from None
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: schedule_factor(config.schedule, step, config.num_steps)
        )

    def step(self, gradient: NDArray[np.float32]) -> float:
        """Take one outer step against ``gradient`` (P,); returns its norm before clipping."""
        slope = aligned(gradient)
        norm = float(torch.linalg.vector_norm(slope))
        if self.config.clip_norm is not None and norm > self.config.clip_norm:
            slope *= self.config.clip_norm / norm
        for views, spans in zip(self._views, self._spans, strict=True):
            for view, (start, stop) in zip(views, spans, strict=True):
                view.grad = slope[start:stop]
        self.optimizer.step()
        self.schedule.step()
        return norm

    @property
    def params(self) -> NDArray[np.float32]:
        """A copy of the flat parameters (P,)."""
        return self.flat.numpy().copy()

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's state tensors by name, for a checkpoint."""
        state = self.optimizer.state_dict()["state"]
        return {
            f"{index}.{name}": torch.as_tensor(value)
            for index, slots in state.items()
            for name, value in slots.items()
            if value is not None
        }

    def load(self, flat: NDArray[np.float32], tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue after ``step`` finished steps with the state of a checkpoint, copied into aligned memory."""
        self.flat.copy_(aligned(flat))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = aligned(value)
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**whole, "state": state})
        self.schedule.last_epoch = step
        for group, base in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = base * schedule_factor(self.config.schedule, step, self.config.num_steps)


def schedule_factor(schedule: ScheduleConfig, step: int, num_steps: int) -> float:
    """Share of the outer rate at ``step`` (0-based).

    >>> schedule_factor(ScheduleConfig(name="cosine"), 50, 100)
    0.5
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = min(1.0, (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps))
    if schedule.name == "cosine":
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "linear":
        return schedule.final + (1 - schedule.final) * (1 - done)
    if schedule.name == "step":
        return float(schedule.factor ** (step // schedule.every_steps))
    return 1.0


def _groups(config: OuterConfig, layout: Layout) -> list[tuple[float, list[tuple[int, int]]]]:
    """(lr, spans of the flat vector) for the rest and for each ``outer.groups`` entry."""
    owner = dict.fromkeys(layout.names, 0)
    for number, group in enumerate(config.groups, start=1):
        hits = matching(group.match, layout.names)
        if not hits:
            raise ConfigError(
                f"outer.groups {list(group.match)} matches no leaf; the leaves are {', '.join(layout.names)}"
            )
        owner.update(dict.fromkeys(hits, number))
    rates = [config.lr, *(group.lr for group in config.groups)]
    spans: list[list[tuple[int, int]]] = [[] for _ in rates]
    start, previous = 0, -1
    for name, size in zip(layout.names, layout.sizes, strict=True):
        mine = spans[owner[name]]
        if owner[name] == previous and mine:
            mine[-1] = (mine[-1][0], start + size)
        else:
            mine.append((start, start + size))
        start, previous = start + size, owner[name]
    return [(rate, group) for rate, group in zip(rates, spans, strict=True) if group]
