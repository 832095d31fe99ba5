"""Kept states come back bit for bit, in aligned memory of their own, also where tasks share some leaves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from metadist.inner.kept import keep, restore
from metadist.inner.optimizers import InnerState


def states(x: Tensor) -> list[InnerState]:
    """s[0] is the same for all tasks; ``shared`` stays so; a leaf has no axis, another is of half precision."""
    found = [InnerState({"w": torch.ones(2, 3), "b": torch.zeros(()), "shared": torch.ones(3).half()}, {})]
    for k in range(1, 4):
        last = found[-1].params
        found.append(InnerState({"w": last["w"].sin() + k * x, "b": last["b"] + x.sum(), "shared": last["shared"]}, {}))
    return found


def through(x: Tensor) -> list[InnerState]:
    return [restore(kept) for kept in [keep(state) for state in states(x)]]


def test_states_come_back_for_every_task() -> None:
    tasks = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    for given, restored in ((states(tasks[0]), through(tasks[0])), (vmap(states)(tasks), vmap(through)(tasks))):
        for before, after in zip(given, restored, strict=True):
            for name, leaf in before.params.items():
                assert after.params[name].dtype == leaf.dtype and torch.equal(after.params[name], leaf), name
                assert after.params[name].data_ptr() % 64 == 0


def test_a_restored_state_is_no_view_of_the_kept_one() -> None:
    kept = keep(states(torch.ones(2, 3))[2])
    before = restore(kept).params["w"].clone()
    restore(kept).params["w"].zero_()
    assert torch.equal(restore(kept).params["w"], before)
