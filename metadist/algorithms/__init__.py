"""Meta-learning algorithms by name: one file a family; `metadist.config.presets` says which switches a name sets."""

from __future__ import annotations

from metadist.algorithms import descent
from metadist.algorithms.imaml import imaml
from metadist.algorithms.interface import Adapted, MetaAlgorithm
from metadist.algorithms.maml import maml
from metadist.algorithms.protomaml import protomaml
from metadist.algorithms.protonet import protonet
from metadist.algorithms.r2d2 import r2d2
from metadist.algorithms.reptile import reptile
from metadist.config import AlgorithmConfig
from metadist.config.presets import ONE_PASS, OWN
from metadist.errors import ConfigError
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.own.code import built
from metadist.tasks import TaskSpec

__all__ = [
    "Adapted",
    "MetaAlgorithm",
    "adapted_leaves",
    "build_algorithm",
    "imaml",
    "maml",
    "protomaml",
    "protonet",
    "r2d2",
    "reptile",
]


def adapted_leaves(config: AlgorithmConfig, model: Model) -> tuple[str, ...]:
    """Names of the meta-learned leaves that the inner loop moves; of an algorithm of one's own they are not known."""
    return () if config.family in ONE_PASS or config.family == OWN else descent.adapted_leaves(config, model)


def build_algorithm(config: AlgorithmConfig, model: Model, objective: Objective, spec: TaskSpec) -> MetaAlgorithm:
    """The configured algorithm as pure functions of one task of ``spec``'s shape.

    Raises:
        ConfigError: the settings do not fit the algorithm or the model.
    """
    family = config.family
    if family == OWN:
        return _own(config, model, objective, spec)
    if family == "protonet":
        return protonet(model, objective, config, ways=spec.outputs)
    if family in ("protomaml", "r2d2"):
        return {"protomaml": protomaml, "r2d2": r2d2}[family](model, objective, config, spec)
    return {"maml": maml, "reptile": reptile, "imaml": imaml}[family](model, objective, config)


def _own(config: AlgorithmConfig, model: Model, objective: Objective, spec: TaskSpec) -> MetaAlgorithm:
    found = built(config.name, "algorithm.name", model, objective, config, spec)
    # By its fields: in a served model our own classes have another home than those that a user's code imports.
    if getattr(found, "_fields", ()) != MetaAlgorithm._fields or not all(map(callable, found[:5])):
        raise ConfigError(
            f"algorithm.name {config.name!r} returned {type(found).__name__}; it must return metadist.algorithms."
            f"MetaAlgorithm({', '.join(MetaAlgorithm._fields[:5])}), each a function of one task"
        )
    return MetaAlgorithm(*found)
