"""ProtoMAML: MAML whose linear head begins at the prototypes.

Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", ICLR 2020. The
head starts where it gives a prototypical network's outputs: weight 2 c and bias -|c|^2 for a class's prototype c.
The meta-gradient goes through that start as well. The head always adapts; ``adapt`` says what else does.

Differs from the paper: the prototypes are those of the support set before the first step under the same weights (as
theirs), and their first-order version is a switch (``first_order``), not the rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metadist.algorithms.descent import adapted_leaves, descent
from metadist.algorithms.interface import MetaAlgorithm
from metadist.algorithms.maml import through_the_loop
from metadist.algorithms.protonet import prototypes
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context, TaskSpec

WEIGHT, BIAS = "prototypes.weight", "prototypes.bias"


def protomaml(model: Model, objective: Objective, settings: AlgorithmConfig, spec: TaskSpec) -> MetaAlgorithm:
    """ProtoMAML for an embedding ``model`` and tasks of ``spec.outputs`` ways."""
    if settings.normalisation.startswith("per-step"):
        raise ConfigError("algorithm protomaml has no per-step normalisation; use inductive or transductive")
    leaves = adapted_leaves(settings, model)

    def start(meta: MetaParams, support: Batch, ctx: Context) -> Params:
        centres = prototypes(model.forward(meta.model, support.x)[0], support, spec.outputs)
        head = {WEIGHT: 2 * centres, BIAS: -centres.square().sum(1)}
        return {**{name: meta.model[name] for name in leaves}, **head}

    def all_adapted(initial: Params) -> Params:
        moved = {name: initial[name] for name in leaves}
        if settings.learned_rates == "element":  # only then does a rate need the width of the features
            width = model.forward(initial, torch.zeros(2, *spec.input_shape))[0].shape[1]
            head = {WEIGHT: torch.zeros(spec.outputs, width), BIAS: torch.zeros(spec.outputs)}
        else:
            head = {WEIGHT: torch.zeros(()), BIAS: torch.zeros(())}
        return {**moved, **head}

    pieces = descent(with_head(model), objective, settings, leaves=leaves, start=start, rated=all_adapted)
    return through_the_loop(pieces, settings)


def with_head(model: Model) -> Model:
    """``model`` with a linear head on its features, whose two leaves come with the adapted ones."""

    def forward(
        params: Params, x: Inputs, statistics: Params | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Params]:
        body = {name: leaf for name, leaf in params.items() if name not in (WEIGHT, BIAS)}
        features, found = model.forward(body, x, statistics, noise)
        return features @ params[WEIGHT].T + params[BIAS], found

    return model._replace(forward=forward)
