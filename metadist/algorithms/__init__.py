"""Meta-learning algorithms by name: one file a family."""

from __future__ import annotations

from functools import partial

from metadist.algorithms.interface import Adapted, MetaAlgorithm
from metadist.algorithms.maml import maml
from metadist.algorithms.protonet import protonet
from metadist.algorithms.reptile import reptile
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import matching
from metadist.tasks import TaskSpec

__all__ = ["Adapted", "MetaAlgorithm", "adapted_leaves", "build_algorithm", "maml", "protonet", "reptile"]


def adapted_leaves(config: AlgorithmConfig, model: Model) -> tuple[str, ...]:
    """Names of the meta-learned leaves that the inner loop moves."""
    if config.name == "protonet":
        return ()
    names = matching(config.adapt, model.names)
    if not names:
        raise ConfigError(
            f"algorithm.adapt {list(config.adapt)} matches none of the meta-learned leaves {', '.join(model.names)}"
        )
    return names


def build_algorithm(config: AlgorithmConfig, model: Model, objective: Objective, spec: TaskSpec) -> MetaAlgorithm:
    """The configured algorithm as pure functions of one task of ``spec``'s shape."""
    if config.name == "protonet":
        return protonet(model, objective, ways=spec.outputs, normalisation=config.normalisation)
    if config.name == "reptile" and (config.inner_steps == 0 or config.inner_lr == 0):
        raise ConfigError("algorithm reptile needs inner_steps and inner_lr above zero, else it never moves")
    family = reptile if config.name == "reptile" else partial(maml, first_order=config.name == "fomaml")
    return family(
        model,
        objective,
        inner_steps=config.inner_steps,
        inner_lr=config.inner_lr,
        adapted_leaves=adapted_leaves(config, model),
        normalisation=config.normalisation,
    )
