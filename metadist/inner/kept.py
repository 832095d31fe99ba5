"""The states of an inner loop, kept for its way back, each as one tensor.

Leaves kept one by one would lie between the intermediate results of the steps, and the holes that those leave in the
heap cost as much again as the states (``pytest tests/bench/test_inner_steps.py -m bench``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from metadist.inner.optimizers import InnerState


class KeptState(NamedTuple):
    """A state's values in one row, and how they make its leaves."""

    row: Tensor
    leaves: tuple[tuple[torch.Size, torch.dtype], ...]
    spec: Any


def keep(state: InnerState) -> KeptState:
    """A copy of the state."""
    leaves, spec = tree_flatten(state)
    row = torch.cat([leaf.reshape(-1) for leaf in leaves])
    return KeptState(row, tuple((leaf.shape, leaf.dtype) for leaf in leaves), spec)


def restore(kept: KeptState) -> InnerState:
    """The state, its leaves in memory of their own: bits depend on alignment."""
    parts: tuple[Tensor, ...] = kept.row.split([shape.numel() for shape, _ in kept.leaves])  # type: ignore[no-untyped-call]
    leaves = [part.reshape(shape).to(dtype, copy=True) for part, (shape, dtype) in zip(parts, kept.leaves, strict=True)]
    state: InnerState = tree_unflatten(leaves, kept.spec)
    return state
