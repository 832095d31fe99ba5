"""Model, objective and algorithm of a configuration: one way to build them, in training and in serving alike."""

from __future__ import annotations

from metadist.algorithms import MetaAlgorithm, build_algorithm
from metadist.config import AlgorithmConfig, RunConfig
from metadist.errors import ConfigError
from metadist.models import Model, build_model
from metadist.objectives import Objective, build_objective
from metadist.own_code import search_in
from metadist.presets import EMBEDDING, check_kind
from metadist.tasks import TaskSpec


def build_parts(config: RunConfig, spec: TaskSpec) -> tuple[Model, Objective, MetaAlgorithm]:
    """Model, objective and algorithm for tasks of ``spec``.

    Raises:
        ModelError, ConfigError: a part cannot be built, or does not fit the tasks.
    """
    search_in(config.code_path)
    try:
        check_kind(config.objective.name, config.algorithm.name, spec.kind)
    except ValueError as error:
        raise ConfigError(f"{error} (tasks.source {config.tasks.source})") from None
    model = build_model(config.model, spec, config.seed, embedding=takes_features(config.algorithm))
    objective = build_objective(config.objective)
    return model, objective, build_algorithm(config.algorithm, model, objective, spec)


def takes_features(config: AlgorithmConfig) -> bool:
    """Whether the model ends in features of any width instead of the task's outputs."""
    return config.features or config.family in EMBEDDING
