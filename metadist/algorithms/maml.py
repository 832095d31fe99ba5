"""MAML and FOMAML.

Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017.
K steps of gradient descent on the support loss, then the gradient of the query loss with respect to the start.
FOMAML takes the inner gradients as constants: its meta-gradient is the query gradient at the adapted weights.

Differs from the paper: losses are means over examples (its code sums over classes, so that its inner rate is the
number of ways smaller); normalisation is a choice (the paper's is transductive).
"""

from __future__ import annotations

from torch import Tensor
from torch.func import grad_and_value

from metadist.algorithms.interface import (
    Adapted,
    MetaAlgorithm,
    Metrics,
    needs,
    predict_with,
    query_metrics,
    support_statistics,
)
from metadist.inner import sgd_step, unroll
from metadist.models.functional import Inputs, Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams, Params
from metadist.tasks import Batch, Context, Task


def maml(
    model: Model,
    objective: Objective,
    *,
    inner_steps: int,
    inner_lr: float,
    adapted_leaves: tuple[str, ...],
    normalisation: str,
    first_order: bool = False,
) -> MetaAlgorithm:
    """MAML for one model and objective.

    Args:
        model: The network.
        objective: The task's loss and metrics.
        inner_steps: K in training.
        inner_lr: Step size of the inner loop, for mean losses.
        adapted_leaves: Names of the leaves that the inner loop moves; the others keep their initial values.
        normalisation: ``"inductive"`` or ``"transductive"``.
        first_order: FOMAML.
    """

    def init(seed: int) -> MetaParams:
        return MetaParams(model.initial(seed), {})

    def path(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> list[Adapted]:
        return [_finish(meta, state, support) for state in _states(meta, support, num_steps)]

    def adapt(meta: MetaParams, support: Batch, ctx: Context, *, num_steps: int) -> Adapted:
        return _finish(meta, _states(meta, support, num_steps)[-1], support)

    def predict(adapted: Adapted, x: Inputs) -> Tensor:
        return predict_with(model, adapted, x)

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        support, query = needs(task.support, "support"), needs(task.query, "query")

        def query_loss(meta: MetaParams) -> tuple[Tensor, Metrics]:
            outputs = predict(adapt(meta, support, ctx, num_steps=inner_steps), query.x)
            loss = objective.loss(outputs, query)
            return loss, query_metrics(objective, outputs, loss, query)

        gradient, (_, metrics) = grad_and_value(query_loss, has_aux=True)(meta)
        return gradient, metrics

    def _states(meta: MetaParams, support: Batch, num_steps: int) -> list[Params]:
        def support_loss(moved: Params) -> Tensor:
            return objective.loss(model.forward({**meta.model, **moved}, support.x, None)[0], support)

        start = {name: meta.model[name] for name in adapted_leaves}
        return unroll(lambda moved: sgd_step(support_loss, moved, inner_lr, first_order=first_order), start, num_steps)

    def _finish(meta: MetaParams, moved: Params, support: Batch) -> Adapted:
        params = {**meta.model, **moved}
        return Adapted(params, support_statistics(model, params, support, normalisation), {})

    return MetaAlgorithm(init, adapt, path, predict, meta_gradient)
