"""Networks: shipped ones, a user's own, and how a module becomes pure functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from metadist.config import ModelConfig
from metadist.errors import ModelError
from metadist.models import conv4, encoder, gru, mlp, resnet12, transformer
from metadist.models.functional import Model, functional_model, narrowed
from metadist.models.weights import load_weights
from metadist.own.code import imported
from metadist.tasks import TaskSpec

__all__ = ["SHIPPED", "Model", "build_model", "functional_model", "narrowed"]

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
        ModelError: the factory cannot be imported or called, or the module cannot be meta-trained.
    """
    build = SHIPPED[config.name] if config.name is not None else imported(config.factory or "", "model.factory")
    options = {**config.options, **({"embedding": True} if embedding and config.name is not None else {})}
    weights = load_weights(config.weights) if config.weights is not None else None
    try:
        return functional_model(partial(build, spec, **options), seed=seed, freeze=config.freeze, weights=weights)
    except TypeError as error:
        raise ModelError(f"model {config.name or config.factory} with options {config.options}: {error}") from error
