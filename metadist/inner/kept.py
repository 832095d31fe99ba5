"""The states of an inner loop, kept for its way back in one block of memory.

Leaves kept one by one would lie between the intermediate results of the steps, and the holes that those leave in the
heap cost as much again as the states (``pytest tests/bench/test_inner_steps.py -m bench``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from metadist.inner.optimizers import InnerState


class KeptStates:
    """s[0]..s[K-1]: ``put`` one after the other, ``take`` in any order.

    s[0] is kept as it is: all tasks may share it, while the others are each task's own. Of those, the leaves of one
    state are one row, copied back into memory of their own, since bits depend on alignment.
    """

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps

    def put(self, k: int, state: InnerState) -> None:
        """Keep s[k]."""
        if k == 0:
            self._first = state
            return
        leaves, spec = tree_flatten(state)
        row = torch.cat([leaf.reshape(-1) for leaf in leaves])
        if k == 1:
            self._rows = row.new_empty((self._num_steps - 1, *row.shape))
            self._sizes = [leaf.numel() for leaf in leaves]
            self._kinds: list[tuple[torch.Size, torch.dtype]] = [(leaf.shape, leaf.dtype) for leaf in leaves]
            self._spec: Any = spec
        self._rows[k - 1] = row

    def take(self, k: int) -> InnerState:
        """s[k]."""
        if k == 0:
            return self._first
        parts: tuple[Tensor, ...] = self._rows[k - 1].split(self._sizes)  # type: ignore[no-untyped-call]
        leaves = [
            part.reshape(shape).to(dtype, copy=True) for part, (shape, dtype) in zip(parts, self._kinds, strict=True)
        ]
        state: InnerState = tree_unflatten(leaves, self._spec)
        return state
