"""Networks: shipped ones, a user's own, and how a module becomes pure functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from metadist.config import ModelConfig
from metadist.errors import ModelError
from metadist.models import conv4, encoder, gru, mlp, resnet12, transformer
from metadist.models.functional import Model, functional_model, narrowed
from metadist.models.weights import load_weights
from metadist.own.code import built, guarded, imported
from metadist.tasks import TaskSpec

__all__ = ["SHIPPED", "Model", "build_model", "functional_model", "narrowed"]

FACTORY = "model.factory"
SHIPPED: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp.build,
    "conv4": conv4.build,
    "resnet12": resnet12.build,
    "gru": gru.build,
    "transformer": transformer.build,
    "encoder": encoder.build,
}


def build_model(config: ModelConfig, spec: TaskSpec, seed: int, *, embedding: bool = False) -> Model:
    """The configured model for tasks of ``spec``; frozen leaves and shapes follow from ``seed``.

    With ``embedding`` a shipped model ends in its features (a factory's model is taken as it is).

    Raises:
        ConfigError: the factory cannot be imported or called, or it raises.
        ModelError: options that a shipped model has not, or a module that cannot be meta-trained or takes other inputs.
    """
    weights = load_weights(config.weights) if config.weights is not None else None

    def make() -> Any:
        if config.name is not None:
            return _shipped(config.name, spec, config.options, embedding=embedding)
        return built(config.factory or "", FACTORY, spec, **config.options)

    if config.name is None:
        imported(config.factory or "", FACTORY)  # before anything is seeded: a module may draw when it is imported
    model = functional_model(make, seed=seed, freeze=config.freeze, weights=weights)
    if spec.vocabulary is not None and model.vocabulary is None:
        raise ModelError(
            f"the tasks' inputs are token ids, {spec.vocabulary} different ones, and model "
            f"{config.name or config.factory} takes numbers: use model.name gru, transformer or encoder, give a module "
            "of your own the attribute vocabulary, the number of ids that it takes, or leave tokenize out of "
            "tasks.transform"
        )
    return model


def _shipped(name: str, spec: TaskSpec, options: Mapping[str, Any], *, embedding: bool) -> nn.Module:
    build = SHIPPED[name]
    named = list(inspect.signature(build).parameters)[1:]
    unknown = [option for option in options if option not in named or option == "embedding"]
    if unknown:
        takes = ", ".join(option for option in named if option != "embedding")
        raise ModelError(f"model {name} has no model.options.{unknown[0]}; it has {takes}")
    module: nn.Module = guarded(
        f"model {name} with model.options {dict(options)} cannot be built",
        lambda: build(spec, **options, **({"embedding": True} if embedding else {})),
        ModelError,
    )
    return module
