"""From a run to a registered model: bundle it, judge it by the function that is served, log and register it."""

from __future__ import annotations

from metadist.registry.build import build_bundle
from metadist.registry.publish import register

__all__ = ["build_bundle", "register"]
