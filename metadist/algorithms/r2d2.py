"""R2D2: a ridge regression on the features as the head, in closed form.

Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with Differentiable Closed-form Solvers", ICLR 2019. The head
of support features X (S, D) and targets Y (S, O; labels as one-hot rows) is

    W = (X'X + l I)^-1 X'Y = X' (XX' + l I)^-1 Y,

by whichever system is smaller (the right one is the Woodbury form, S below D). The outputs of features Z are
``a Z W + b``; l (by its logarithm), a and b are learned by the outer loop.

With ``prior_head`` a regression shrinks not to zero but to a head W0 that is learned, too: W0 + the ridge regression of
what it leaves over. That is the mean of a Bayesian linear regression whose prior is learned, as in Harrison, Sharma and
Pavone, "Meta-Learning Priors for Efficient Online Bayesian Regression", WAFR 2018; without examples it is W0.

Differs from the paper: l begins at ``ridge``; classes have no b, since a shift of all logits changes no softmax;
their second method, logistic regression by Newton's steps, is not here. Differs from Harrison et al.: the prior's
precision is ``l`` times the identity, since the features can take on any other, and the loss is that of the mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metadist.algorithms.interface import MetaAlgorithm
from metadist.algorithms.one_pass import one_pass
from metadist.algorithms.protonet import one_hot
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, TaskSpec


def r2d2(model: Model, objective: Objective, settings: AlgorithmConfig, spec: TaskSpec) -> MetaAlgorithm:
    """R2D2 for an embedding ``model`` and tasks of ``spec``."""

    labels = spec.kind == "classes"
    if labels and settings.prior_head:
        raise ConfigError(
            "algorithm.prior_head is for regression: the classes of a task have no order to learn a head by"
        )

    def init(seed: int) -> MetaParams:
        inner = {"log_ridge": torch.tensor(math.log(settings.ridge)), "scale": torch.ones(())}
        if settings.prior_head:
            inner["prior"] = torch.zeros(_width(model, spec), spec.outputs)
        return MetaParams(model.initial(seed), inner if labels else {**inner, "shift": torch.zeros(())})

    def make_head(meta: MetaParams, features: Tensor, support: Batch) -> Params:
        wanted = one_hot(support.y, spec.outputs, features.dtype) if labels else support.y
        prior = meta.inner.get("prior")
        left = wanted if prior is None else wanted - features @ prior
        weight = ridge(features, left, meta.inner["log_ridge"].exp(), support.weight)
        weight = weight if prior is None else prior + weight
        scaled = meta.inner["scale"] * weight
        return {"weight": scaled} if labels else {"weight": scaled, "shift": meta.inner["shift"]}

    def outputs(head: Params, features: Tensor) -> Tensor:
        found = features @ head["weight"]
        return found if labels else found + head["shift"]

    return one_pass(
        model, objective, init=init, make_head=make_head, outputs=outputs, normalisation=settings.normalisation
    )


def _width(model: Model, spec: TaskSpec) -> int:
    with torch.no_grad():
        return int(model.forward(model.initial(0), torch.zeros(2, *spec.input_shape))[0].shape[1])


def ridge(features: Tensor, wanted: Tensor, strength: Tensor, weight: Tensor | None = None) -> Tensor:
    """W (D, O) that minimises ``sum_i weight_i |x_i W - y_i|^2 + strength |W|^2``."""
    if weight is not None:
        root = weight.sqrt()[:, None]
        features, wanted = root * features, root * wanted
    examples, width = features.shape

    def shifted(gram: Tensor) -> Tensor:
        return gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    if examples < width:
        dual: Tensor = torch.linalg.solve(shifted(features @ features.T), wanted)
        return features.T @ dual
    primal: Tensor = torch.linalg.solve(shifted(features.T @ features), features.T @ wanted)
    return primal
