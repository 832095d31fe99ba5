"""Reptile.

Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018. The direction is the way from the
adapted weights back to the start, ``(start - adapted) / inner_lr``: not the gradient of any loss. The query set
is only measured.

Differs from the paper: full-batch gradient descent by default (theirs: mini-batches, ``inner_batch_size``, and Adam,
``inner_optimizer``), and division by the inner rate, so that one inner step gives the support gradient itself.
"""

from __future__ import annotations

from metadist.algorithms.descent import adapted_leaves, descent
from metadist.algorithms.interface import MetaAlgorithm, Metrics, needs
from metadist.config import AlgorithmConfig
from metadist.errors import ConfigError
from metadist.inner import unroll
from metadist.inner.loop import step_number
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams
from metadist.tasks import Context, Task


def reptile(model: Model, objective: Objective, settings: AlgorithmConfig) -> MetaAlgorithm:
    """Reptile for one model and objective. It adapts exactly as MAML does."""
    steps, lr = settings.inner_steps, settings.inner_lr
    if steps == 0 or lr == 0:
        raise ConfigError("algorithm reptile needs inner_steps and inner_lr above zero, else it never moves")
    if settings.normalisation.startswith("per-step"):
        raise ConfigError("algorithm reptile learns only from what moves, and a per-step scale does not; use inductive")
    pieces = descent(model, objective, settings, leaves=adapted_leaves(settings, model), first_order=True)

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        state = unroll(pieces.loop, meta, needs(task.support, "support"), ctx, steps)[-1]
        _, metrics = pieces.tap(meta, state, task, ctx, step_number(steps))
        way = {name: (leaf - state.params.get(name, leaf)) / lr for name, leaf in meta.model.items()}
        return MetaParams(way, {}), metrics

    return pieces.algorithm(meta_gradient)
