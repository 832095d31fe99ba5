"""Prototypical networks.

Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017. The model embeds; a class's
prototype is the mean of its support embeddings; the outputs are negative squared Euclidean distances. With
``distance: cosine`` they are ``temperature`` times the cosine, as in Chen, Liu, Kira, Wang and Huang, "A Closer Look
at Few-shot Classification", ICLR 2019.

Differs from the paper: normalisation is a choice, and ways are the same in training and evaluation by default.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.algorithms.interface import MetaAlgorithm
from metadist.algorithms.one_pass import one_pass
from metadist.config import AlgorithmConfig
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch


def protonet(model: Model, objective: Objective, settings: AlgorithmConfig, *, ways: int) -> MetaAlgorithm:
    """ProtoNet for an embedding ``model`` of any output width."""

    def make_head(meta: MetaParams, features: Tensor, support: Batch) -> Params:
        return {"prototypes": prototypes(features, support, ways)}

    def euclidean(head: Params, features: Tensor) -> Tensor:
        return -torch.square(features[:, None, :] - head["prototypes"][None, :, :]).sum(-1)

    def cosine(head: Params, features: Tensor) -> Tensor:
        return settings.temperature * F.normalize(features, dim=-1) @ F.normalize(head["prototypes"], dim=-1).T

    return one_pass(
        model,
        objective,
        init=lambda seed: MetaParams(model.initial(seed), {}),
        make_head=make_head,
        outputs=cosine if settings.distance == "cosine" else euclidean,
        normalisation=settings.normalisation,
    )


def prototypes(features: Tensor, support: Batch, ways: int) -> Tensor:
    """Weighted mean embedding a class: (ways, D) of features (S, D)."""
    belongs = one_hot(support.y, ways, features.dtype)
    if support.weight is not None:
        belongs = belongs * support.weight[:, None]
    return (belongs.T @ features) / belongs.sum(0)[:, None]


def one_hot(labels: Tensor, ways: int, dtype: torch.dtype) -> Tensor:
    """(N, ways) of labels (N,); ``F.one_hot`` cannot be vmapped."""
    return (labels[:, None] == torch.arange(ways, device=labels.device)).to(dtype)
