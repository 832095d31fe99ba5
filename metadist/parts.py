"""Model, objective and algorithm of a configuration: one way to build them, in training and in serving alike."""

from __future__ import annotations

from metadist.algorithms import MetaAlgorithm, build_algorithm
from metadist.config import RunConfig
from metadist.models import Model, build_model
from metadist.objectives import Objective, build_objective
from metadist.presets import EMBEDDING
from metadist.tasks import TaskSpec


def build_parts(config: RunConfig, spec: TaskSpec) -> tuple[Model, Objective, MetaAlgorithm]:
    """Model, objective and algorithm for tasks of ``spec``."""
    model = build_model(config.model, spec, config.seed, embedding=config.algorithm.family in EMBEDDING)
    objective = build_objective(config.objective)
    return model, objective, build_algorithm(config.algorithm, model, objective, spec)
