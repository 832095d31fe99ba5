"""Steps between a stored column and a tensor. Each is named in the configuration and travels into the bundle."""

from __future__ import annotations

from metadist.transforms.chain import Chain, build_steps, fit_chain, read_chain
from metadist.transforms.step import Step

__all__ = ["Chain", "Step", "build_steps", "fit_chain", "read_chain"]
