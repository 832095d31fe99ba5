"""iMAML: the gradient of where the inner problem ends, whatever the way there.

Rajeswaran, Finn, Kakade and Levine, "Meta-Learning with Implicit Gradients", NeurIPS 2019. The inner problem is the
support loss plus ``proximal / 2 * |w - start|^2`` (and ``weight_decay / 2 * |w|^2``); at its solution F(phi, w) = 0 for
the slope F of all, so

    direction = dL/dphi - (dF/dphi)^T x,    (H + proximal + weight_decay) x = dL/dw,

x by ``cg_steps`` of conjugate gradients. Exact where K inner steps solve the inner problem; memory does not grow
with K. It is not the gradient of the query loss after K steps.

Differs from the paper: leaves that the inner loop does not move get their exact implicit gradient, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad
from torch.utils._pytree import tree_map

from metadist.algorithms.descent import adapted_leaves, descent
from metadist.algorithms.interface import MetaAlgorithm, Metrics, needs
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.inner import InnerState, unroll
from metadist.inner.gradients import along, pullback
from metadist.inner.loop import step_number
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Context, Task


def imaml(model: Model, objective: Objective, settings: AlgorithmConfig) -> MetaAlgorithm:
    """iMAML for one model and objective."""
    leaves, steps = adapted_leaves(settings, model), settings.inner_steps
    if settings.inner_batch_size is not None or settings.normalisation.startswith("per-step"):
        raise ConfigError(
            "algorithm imaml differentiates the solution of one inner problem: it has no inner_batch_size and no "
            "per-step normalisation, since each step would then have another problem"
        )
    if model.drops:
        raise ConfigError("algorithm imaml takes no dropout: each inner step would then have another problem")
    decay = settings.inner_optimizer.weight_decay

    def penalty(meta: MetaParams, moved: Params) -> Tensor:
        return settings.proximal / 2 * _dot(*[{name: moved[name] - meta.model[name] for name in leaves}] * 2)

    pieces = descent(model, objective, settings, leaves=leaves, first_order=True, penalty=penalty)

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        support = needs(task.support, "support")
        state, last = unroll(pieces.loop, meta, support, ctx, steps)[-1], step_number(steps)

        def query_loss(meta: MetaParams, params: Params) -> tuple[Tensor, Metrics]:
            return pieces.tap(meta, InnerState(params, {}), task, ctx, last)

        def slope(meta: MetaParams, params: Params) -> Params:
            found: Params = grad(pieces.loop.loss, argnums=1)(meta, params, support, ctx, last)
            return {name: leaf + decay * params[name] for name, leaf in found.items()} if decay else found

        (direct, wish), metrics = grad(query_loss, argnums=(0, 1), has_aux=True)(meta, state.params)
        _, pull = pullback(slope, meta, state.params)

        def curvature(vector: Params) -> Params:
            if settings.hessian == "forward":
                return along(lambda params: slope(meta, params), state.params, vector)  # type: ignore[no-any-return]
            return pull(vector)[1]  # type: ignore[no-any-return]

        by_meta, _ = pull(conjugate_gradients(curvature, wish, settings.cg_steps))
        return tree_map(torch.sub, direct, by_meta), metrics

    return pieces.algorithm(meta_gradient)


def conjugate_gradients(product: Callable[[Params], Params], target: Params, num_steps: int) -> Params:
    """``num_steps`` of conjugate gradients from zero on ``product(x) = target`` (Hestenes and Stiefel, 1952)."""
    x = {name: torch.zeros_like(leaf) for name, leaf in target.items()}
    residual = way = target
    size = _dot(residual, residual)
    for _ in range(num_steps):
        image = product(way)
        length = _ratio(size, _dot(way, image))
        x = {name: leaf + length * way[name] for name, leaf in x.items()}
        residual = {name: leaf - length * image[name] for name, leaf in residual.items()}
        before, size = size, _dot(residual, residual)
        turn = _ratio(size, before)
        way = {name: leaf + turn * way[name] for name, leaf in residual.items()}
    return x


def _dot(one: Params, other: Params) -> Tensor:
    return torch.stack([(leaf * other[name]).sum() for name, leaf in one.items()]).sum()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """0 where both are zero: a residual of zero is solved, and further steps leave it so."""
    solved = (above == 0) & (below == 0)
    return torch.where(solved, torch.zeros_like(above), above / torch.where(solved, torch.ones_like(below), below))
