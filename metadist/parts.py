"""Model, objective and algorithm of a configuration: one way to build them, in training and in serving alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from metadist.algorithms import MetaAlgorithm, build_algorithm
from metadist.config import AlgorithmConfig, RunConfig
from metadist.config.presets import EMBEDDING, check_kind
from metadist.errors import ConfigError
from metadist.models import Model, build_model, narrowed
from metadist.objectives import Objective, build_objective
from metadist.own.code import search_in
from metadist.tasks import Batch, TaskSpec
from metadist.transforms.targets import Targets


def build_parts(
    config: RunConfig, spec: TaskSpec, targets: Targets | None = None
) -> tuple[Model, Objective, MetaAlgorithm]:
    """Model, objective and algorithm for tasks of ``spec``, whose ``targets`` may be transformed.

    Raises:
        ModelError, ConfigError: a part cannot be built, or does not fit the tasks.
    """
    search_in(config.code_path)
    try:
        check_kind(config.objective.name, config.algorithm.name, spec.kind)
    except ValueError as error:
        raise ConfigError(f"{error} (tasks.source {config.tasks.source})") from None
    model = build_model(config.model, widest(config, spec), config.seed, embedding=takes_features(config.algorithm))
    if config.tasks.support is not None and not model.maskable:
        name = config.model.name or config.model.factory
        raise ConfigError(
            f"tasks.support {list(config.tasks.support)} pads support sets, and model {name} does not say that padding "
            "leaves its answers alone (batch norm, for one, sees it): use fixed sizes, tasks.shapes: [{shots: 1}, "
            "{shots: 5}], a shipped model with norm: group or layer, or say maskable = True in a module of your own"
        )
    objective = in_units(build_objective(config.objective), targets)
    return model, objective, algorithm_for(config, model, objective, spec)


def in_units(objective: Objective, targets: Targets | None) -> Objective:
    """The objective of transformed targets: its loss is of these, its metrics are in the units of the column."""
    if targets is None:
        return objective

    def metrics(outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return objective.metrics(targets.undone(outputs), batch._replace(y=targets.undone(batch.y)))

    return Objective(objective.loss, metrics)


def algorithm_for(config: RunConfig, model: Model, objective: Objective, spec: TaskSpec) -> MetaAlgorithm:
    """The algorithm for tasks of ``spec``, whose ways may be fewer than the model's outputs."""
    narrow = not takes_features(config.algorithm) and spec.outputs < widest(config, spec).outputs
    return build_algorithm(config.algorithm, narrowed(model, spec.outputs) if narrow else model, objective, spec)


def widest(config: RunConfig, spec: TaskSpec) -> TaskSpec:
    """The tasks with most ways among those of ``spec`` and the configured shapes: what the model is built for."""
    ways = [tasks.ways for tasks in config.tasks.shaped()] if config.tasks.shapes and spec.kind == "classes" else []
    return replace(spec, outputs=max(spec.outputs, *ways)) if ways else spec


def takes_features(config: AlgorithmConfig) -> bool:
    """Whether the model ends in features of any width instead of the task's outputs."""
    return config.features or config.family in EMBEDDING
