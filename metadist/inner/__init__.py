"""The inner loop: what happens inside one task."""

from __future__ import annotations

from metadist.inner.sgd import sgd_step, unroll

__all__ = ["sgd_step", "unroll"]
