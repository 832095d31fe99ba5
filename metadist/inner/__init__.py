"""The inner loop: what happens inside one task, and how to differentiate through it."""

from __future__ import annotations

from metadist.inner.gradients import adjoint, unrolled
from metadist.inner.loop import InnerLoop, slices, take_step, unroll
from metadist.inner.optimizers import InnerState, build_optimizer
from metadist.inner.rates import initial_rates, rates_of, row

__all__ = [
    "InnerLoop",
    "InnerState",
    "adjoint",
    "build_optimizer",
    "initial_rates",
    "rates_of",
    "row",
    "slices",
    "take_step",
    "unroll",
    "unrolled",
]
