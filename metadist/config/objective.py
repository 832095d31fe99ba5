"""The section of the objective, and the options of the shipped ones: what they minimise, and what they measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from metadist.config.presets import OBJECTIVES, check_shipped, is_own
from metadist.config.sections import Section, checked_options

RegressionMetric = Literal["mse", "mae", "pinball"]
MEASURED_BY: dict[str, tuple[RegressionMetric, ...]] = {  # where options.metrics names none
    "mse": ("mse",),
    "mae": ("mae",),
    "huber": ("mae",),
    "quantile": ("pinball",),
}


class RegressionOptions(Section):
    """Of ``regression``. Every metric is a mean over the target columns and the examples of a task; that of several
    tasks is the mean of theirs. (A root of a mean is none, so there is no rmse.)"""

    loss: Literal["mse", "mae", "huber", "quantile"] = "mse"
    delta: float = Field(1.0, gt=0, description="huber: errors up to here count by their square")
    quantile: float = Field(0.5, gt=0, lt=1, description="quantile, pinball: share of the targets that lie below")
    metrics: tuple[RegressionMetric, ...] = Field((), description="the first one decides; follows from the loss")

    @model_validator(mode="after")
    def _read(self) -> RegressionOptions:
        if "delta" in self.model_fields_set and self.loss != "huber":
            raise ValueError(f"delta is read by loss huber, not by {self.loss}")
        if "quantile" in self.model_fields_set and "pinball" not in self.measured and self.loss != "quantile":
            raise ValueError(f"quantile is read by loss quantile and metric pinball, not by loss {self.loss}")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics {', '.join(self.metrics)} names one twice")
        return self

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the metrics, the one that decides first."""
        return self.metrics or MEASURED_BY[self.loss]


class ClassificationOptions(Section):
    """Of ``classification``."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label that is spread over all classes")

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the metrics, the one that decides first."""
        return ("accuracy",)


Options = RegressionOptions | ClassificationOptions
OPTIONS: dict[str, type[RegressionOptions] | type[ClassificationOptions]] = {
    "regression": RegressionOptions,
    "classification": ClassificationOptions,
}


def objective_options(name: str, options: Mapping[str, Any]) -> Options:
    """The options of a shipped objective, with defaults.

    Raises:
        ValueError: one that it does not have, or a value that does not fit.
    """
    return checked_options(OPTIONS[name], options, f"objective {name}")


class ObjectiveConfig(Section):
    """What a task minimises: ``classification``, ``regression``, or ``"my_package.module:build"``."""

    name: str
    options: dict[str, Any] = Field({}, description="see metadist.config.objective; or of an objective of your own")

    @model_validator(mode="after")
    def _known(self) -> ObjectiveConfig:
        if not is_own(self.name):
            check_shipped("objective.name", self.name, OBJECTIVES, {})
            objective_options(self.name, self.options)
        return self
