"""Reptile.

Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018. The direction is the way from the
adapted weights back to the start, ``(start - adapted) / inner_lr``: not the gradient of any loss. The query set
is only measured.

Differs from the paper: full-batch gradient descent inside (theirs: mini-batches and Adam), and division by the
inner rate, so that one inner step gives the support gradient itself.
"""

from __future__ import annotations

from metadist.algorithms.interface import MetaAlgorithm, Metrics, needs, query_metrics
from metadist.algorithms.maml import maml
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.parameters import MetaParams
from metadist.tasks import Context, Task


def reptile(
    model: Model,
    objective: Objective,
    *,
    inner_steps: int,
    inner_lr: float,
    adapted_leaves: tuple[str, ...],
    normalisation: str,
) -> MetaAlgorithm:
    """Reptile for one model and objective; the arguments are those of `maml`. It adapts exactly as MAML does."""
    inner = maml(
        model,
        objective,
        inner_steps=inner_steps,
        inner_lr=inner_lr,
        adapted_leaves=adapted_leaves,
        normalisation=normalisation,
        first_order=True,
    )

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        support, query = needs(task.support, "support"), needs(task.query, "query")
        adapted = inner.adapt(meta, support, ctx, num_steps=inner_steps)
        outputs = inner.predict(adapted, query.x)
        loss = objective.loss(outputs, query)
        way = {name: (leaf - adapted.params[name]) / inner_lr for name, leaf in meta.model.items()}
        return MetaParams(way, {}), query_metrics(objective, outputs, loss, query)

    return inner._replace(meta_gradient=meta_gradient)
