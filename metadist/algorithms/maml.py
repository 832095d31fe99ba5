"""MAML and its relatives by switches: which leaves move, at which rates, which losses and derivatives count.

Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017: K steps of
gradient descent on the support loss, then the gradient of the query loss with respect to the start.

- FOMAML (``first_order``; the same paper, section 5.2): inner gradients are constants.
- ANIL (``adapt: ["head.*"]``): Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse?", ICLR 2020.
- BOIL (``adapt: ["!head.*"]``): Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-shot Learning",
  ICLR 2021. Theirs has another outer rate for the head.
- Meta-SGD (``learned_rates: element``): Li, Zhou, Chen and Li, 2017.
- MAML++ (``learned_rates: leaf-step``, ``normalisation: per-step``, ``multi_step``, ``second_order_from``):
  Antoniou, Edwards and Storkey, "How to train your MAML", ICLR 2019. Per-step statistics are those of the batch;
  the weights of earlier steps fall to zero, where the authors' code keeps 3 % of them until the annealing ends.
- CAVIA (``adapt: ["context"]`` of a model that has one): Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, "Fast
  Context Adaptation via Meta-Learning", ICML 2019. The context's start is learned here, theirs is zero: a bias
  beside it makes both the same.

Differs from the papers: losses are means over examples (MAML's code sums over classes, so that its inner rate is the
number of ways smaller); normalisation is a choice (theirs is transductive).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metadist.algorithms.descent import Descent, adapted_leaves, descent
from metadist.algorithms.interface import MetaAlgorithm
from metadist.config import AlgorithmConfig
from metadist.inner import adjoint, unrolled
from metadist.inner.gradients import Lift, MetaGradient
from metadist.models.functional import Model
from metadist.objectives import Objective
from metadist.tasks import Context


def maml(model: Model, objective: Objective, settings: AlgorithmConfig) -> MetaAlgorithm:
    """The family for one model and objective, as the resolved ``settings`` say."""
    return through_the_loop(descent(model, objective, settings, leaves=adapted_leaves(settings, model)), settings)


def through_the_loop(pieces: Descent, settings: AlgorithmConfig) -> MetaAlgorithm:
    """The algorithm whose direction is the query loss differentiated through the inner loop."""
    steps = settings.inner_steps
    weights = multi_step_weights(steps, settings.multi_step) if settings.multi_step and steps > 1 else None
    if settings.gradient != "adjoint":
        return pieces.algorithm(unrolled(pieces.loop, pieces.tap, steps, weights))

    def staged(lift: Lift) -> MetaGradient:
        return adjoint(pieces.loop, pieces.tap, steps, weights, settings.hessian, lift)

    return pieces.algorithm(staged(lambda piece: piece))._replace(staged=staged)


def multi_step_weights(num_steps: int, share: float) -> Callable[[Context], Tensor]:
    """w (K + 1,): the loss after each of the K steps counts 1 / K at first, after ``share`` of the run only the last.

    Between, the earlier weights fall linearly and the last takes what they lose (MAML++, section 4).
    """

    def weights(ctx: Context) -> Tensor:
        early = (1 - ctx.progress / share).clamp(min=0) / num_steps
        last = 1 - (num_steps - 1) * early
        return torch.cat([torch.zeros_like(early)[None], early.expand(num_steps - 1), last[None]])

    return weights
