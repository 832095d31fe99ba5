"""How a task adapts by descent: the inner loop that the settings describe. MAML, Reptile, iMAML and ProtoMAML share it.

Legend: K inner steps in training, k one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metadist.algorithms.interface import (
    QUERY_NOISE,
    Adapt,
    Adapted,
    MetaAlgorithm,
    MetaGradient,
    Metrics,
    Path,
    needs,
    noise_of,
    predict_with,
    query_metrics,
    support_statistics,
)
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.inner import InnerLoop, InnerState, build_optimizer, initial_rates, rates_of, row, slices, unroll
from metadist.inner.loop import step_number
from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params, matching
from metadist.tasks import Batch, Context, Task

AFFINE, CONTEXT = "affine.", "context"
Start = Callable[[MetaParams, Batch, Context], Params]
Penalty = Callable[[MetaParams, Params], Tensor]
"""(phi, adapted leaves) -> what the inner loss pays for leaving the start."""


class Descent(NamedTuple):
    """The pieces of an algorithm that descends on the support loss.

    Attributes:
        init, adapt, path, predict: As in `MetaAlgorithm`.
        loop: The inner loop in training.
        tap: (phi, s[k], task, ctx, k) -> (query loss, metrics).
    """

    init: Callable[[int], MetaParams]
    adapt: Adapt
    path: Path
    predict: Callable[[Adapted, Inputs], Tensor]
    loop: InnerLoop
    tap: Callable[[MetaParams, InnerState, Task, Context, Tensor], tuple[Tensor, Metrics]]

    def algorithm(self, meta_gradient: MetaGradient) -> MetaAlgorithm:
        """With this direction, the whole algorithm."""
        return MetaAlgorithm(self.init, self.adapt, self.path, self.predict, meta_gradient)


def adapted_leaves(settings: AlgorithmConfig, model: Model) -> tuple[str, ...]:
    """Names of the model's meta-learned leaves that the inner loop moves.

    Raises:
        ConfigError: ``algorithm.adapt`` matches none of them.
    """
    still = model.norm_leaves if _per_step(settings) else ()
    movable = [name for name in model.names if name not in still]
    names = matching(settings.adapt, movable)
    if not names:
        cure = (
            "; model.options.context: 5 gives mlp and conv4 a context of five values, a module of your own takes a "
            "parameter of that name"
        )
        raise ConfigError(
            f"algorithm.adapt {list(settings.adapt)} matches none of the meta-learned leaves {', '.join(movable)}"
            f"{cure if CONTEXT in settings.adapt else ''}"
        )
    return names


def descent(
    model: Model,
    objective: Objective,
    settings: AlgorithmConfig,
    *,
    leaves: tuple[str, ...],
    first_order: bool | None = None,
    start: Start | None = None,
    rated: Callable[[Params], Params] | None = None,
    penalty: Penalty | None = None,
) -> Descent:
    """The inner loop of ``settings`` for one model and objective.

    Args:
        model: The network.
        objective: The task's loss and metrics.
        settings: The resolved ``algorithm`` section.
        leaves: Names of the model's leaves that the inner loop moves; the others keep their initial values.
        first_order: Instead of the settings'.
        start: Where the adapted leaves begin, for a head that is made of the support set; else at their initial
            values.
        rated: initial model leaves -> all leaves that adapt, where these are more than ``leaves``.
        penalty: Added to the inner loss.
    """
    K = settings.inner_steps
    if _per_step(settings) and not model.norm_leaves:
        raise ConfigError(
            f"algorithm.normalisation {settings.normalisation} needs a model with batch normalisation whose scale and "
            "shift are learned; this one has none"
        )
    per_step = model.norm_leaves if _per_step(settings) else ()
    optimizer = build_optimizer(settings.inner_optimizer)
    rates = rates_of(settings.learned_rates, settings.inner_lr)
    curved = not (settings.first_order if first_order is None else first_order)

    def init(seed: int) -> MetaParams:
        initial = model.initial(seed)
        moved = rated(initial) if rated is not None else {name: initial[name] for name in leaves}
        inner = initial_rates(settings.learned_rates, moved, lr=settings.inner_lr, num_steps=K)
        inner.update({AFFINE + name: initial[name].expand(K + 1, -1).clone() for name in per_step})
        return MetaParams({name: leaf for name, leaf in initial.items() if name not in per_step}, inner)

    def weights_at(meta: MetaParams, moved: Params, k: Tensor) -> Params:
        return {**meta.model, **moved, **{name: row(meta.inner[AFFINE + name], k) for name in per_step}}

    def begin(meta: MetaParams, support: Batch, ctx: Context) -> InnerState:
        params = start(meta, support, ctx) if start else {name: meta.model[name] for name in leaves}
        return InnerState(params, optimizer.begin(params))

    def inner_loss(meta: MetaParams, moved: Params, data: Batch, ctx: Context, k: Tensor, *, drop: bool) -> Tensor:
        noise = noise_of(model, ctx, k) if drop else None
        loss = objective.loss(model.forward(weights_at(meta, moved, k), data.x, None, noise)[0], data)
        return loss if penalty is None else loss + penalty(meta, moved)

    def update(meta: MetaParams, state: InnerState, slope: Params, ctx: Context, k: Tensor) -> InnerState:
        if curved and settings.second_order_from > 0:
            late = ctx.progress >= settings.second_order_from
            slope = {name: torch.where(late, leaf, leaf.detach()) for name, leaf in slope.items()}
        return optimizer.update(state, slope, rates(meta), k)

    def loop(*, drop: bool) -> InnerLoop:
        def loss(meta: MetaParams, moved: Params, data: Batch, ctx: Context, k: Tensor) -> Tensor:
            return inner_loss(meta, moved, data, ctx, k, drop=drop)

        return InnerLoop(begin, slices(settings.inner_batch_size), loss, update, curved)

    def finish(meta: MetaParams, state: InnerState, support: Batch, k: Tensor) -> Adapted:
        params = weights_at(meta, state.params, k)
        return Adapted(params, support_statistics(model, params, support, settings.normalisation), {})

    quiet = loop(drop=False)

    def path(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> list[Adapted]:
        states = unroll(quiet, meta, support, ctx, num_steps)
        return [finish(meta, state, support, step_number(k)) for k, state in enumerate(states)]

    def adapt(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> Adapted:
        state = unroll(quiet, meta, support, ctx, num_steps)[-1]
        return finish(meta, state, support, step_number(num_steps))

    def predict(adapted: Adapted, x: Inputs) -> Tensor:
        return predict_with(model, adapted, x)

    def tap(meta: MetaParams, state: InnerState, task: Task, ctx: Context, k: Tensor) -> tuple[Tensor, Metrics]:
        support, query = needs(task.support, "support"), needs(task.query, "query")
        adapted = finish(meta, state, support, k)
        outputs = predict_with(model, adapted, query.x, noise_of(model, ctx, QUERY_NOISE))
        loss = objective.loss(outputs, query)
        return loss, query_metrics(objective, outputs, loss, query)

    return Descent(init, adapt, path, predict, loop(drop=True), tap)


def _per_step(settings: AlgorithmConfig) -> bool:
    return settings.normalisation.startswith("per-step")
