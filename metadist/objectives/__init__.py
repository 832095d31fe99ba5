"""Objectives by name."""

from __future__ import annotations

from metadist.config import ObjectiveConfig
from metadist.objectives.supervised import Objective, classification, mean_over_examples, regression

__all__ = ["Objective", "build_objective", "classification", "mean_over_examples", "regression"]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The configured objective."""
    return {"classification": classification, "regression": regression}[config.name]()
