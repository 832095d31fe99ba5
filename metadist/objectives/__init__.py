"""Objectives by name."""

from __future__ import annotations

from metadist.config import ObjectiveConfig
from metadist.config.objective import ClassificationOptions, objective_options
from metadist.config.presets import is_own
from metadist.errors import ConfigError
from metadist.objectives.supervised import Objective, classification, mean_over_examples, regression
from metadist.own.code import built

__all__ = ["Objective", "build_objective", "classification", "mean_over_examples", "regression"]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The configured objective.

    Raises:
        ConfigError: one of the user's own cannot be built, or is no `Objective`.
    """
    if not is_own(config.name):
        options = objective_options(config.name, config.options)
        if isinstance(options, ClassificationOptions):
            return classification(options.label_smoothing)
        return regression(options.loss, delta=options.delta, quantile=options.quantile, metrics=options.measured)
    found = built(config.name, "objective.name", **config.options)
    # By its fields: in a served model our own classes have another home than those that a user's code imports.
    if getattr(found, "_fields", ()) != Objective._fields or not all(map(callable, found)):
        raise ConfigError(
            f"objective.name {config.name!r} returned {type(found).__name__}; it must return "
            "metadist.objectives.Objective(loss, metrics), two functions of (outputs, batch)"
        )
    return Objective(*found)
