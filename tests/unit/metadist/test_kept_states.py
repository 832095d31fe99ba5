"""Kept states come back bit for bit, in aligned memory of their own, also where tasks share some leaves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from metadist.inner.kept import KeptStates
from metadist.inner.optimizers import InnerState

STEPS = 4


def states(x: Tensor) -> list[InnerState]:
    """s[0] is the same for all tasks; ``shared`` stays so; a leaf has no axis, another is of half precision."""
    found = [InnerState({"w": torch.ones(2, 3), "b": torch.zeros(()), "shared": torch.ones(3).half()}, {})]
    for k in range(1, STEPS):
        last = found[-1].params
        found.append(InnerState({"w": last["w"].sin() + k * x, "b": last["b"] + x.sum(), "shared": last["shared"]}, {}))
    return found


def through(x: Tensor) -> list[InnerState]:
    kept = KeptStates(STEPS)
    for k, state in enumerate(states(x)):
        kept.put(k, state)
    return [kept.take(k) for k in reversed(range(STEPS))][::-1]


def test_states_come_back_for_every_task() -> None:
    tasks = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    for given, taken in ((states(tasks[0]), through(tasks[0])), (vmap(states)(tasks), vmap(through)(tasks))):
        for before, after in zip(given, taken, strict=True):
            for name, leaf in before.params.items():
                assert after.params[name].dtype == leaf.dtype and torch.equal(after.params[name], leaf), name
                assert after.params[name].data_ptr() % 64 == 0


def test_a_taken_state_is_no_view_of_the_kept_ones() -> None:
    kept = KeptStates(STEPS)
    for k, state in enumerate(states(torch.ones(2, 3))):
        kept.put(k, state)
    before = kept.take(2).params["w"].clone()
    kept.take(2).params["w"].zero_()
    assert torch.equal(kept.take(2).params["w"], before)
