"""Two ways through the inner loop to the same meta-gradient: `unrolled` and `adjoint`.

Both give d/dphi of ``sum_k w[k] * L(phi, s[k])``, L a tap's query loss. Unrolled differentiates the whole loop at
once, so its memory grows with K. The adjoint keeps the states only and walks back, recomputing one step at a time
(reverse accumulation with checkpoints at each step; Griewank and Walther, "Evaluating Derivatives", 2008, ch. 12):

    g, lam = d(w[K] L)/d(phi, s[K])
    for k = K-1 .. 0:   g, lam = (g, 0) + vjp(step at k)(lam) + w[k] dL/d(phi, s[k])
    g = g + vjp(start)(lam)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp, vjp
from torch.utils._pytree import tree_map

from metadist.inner.kept import keep, restore
from metadist.inner.loop import InnerLoop, step_number, take_step, unroll
from metadist.inner.optimizers import InnerState
from metadist.parameters import MetaParams, Params
from metadist.tasks import Context, Task

Metrics = dict[str, tuple[Tensor, Tensor]]
Tap = Callable[[MetaParams, InnerState, Task, Context, Tensor], tuple[Tensor, Metrics]]
"""(phi, s[k], task, ctx, k) -> (query loss, metrics)."""
Weights = Callable[[Context], Tensor] | None
"""ctx -> w (K + 1,), or None where only the last state counts."""
MetaGradient = Callable[[MetaParams, Task, Context], tuple[MetaParams, Metrics]]
Lift = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Adds the task axis to a piece of the adjoint, whose arguments are (phi, ctx, k, *trees of a task)."""
Hessian = Literal["reverse", "forward"]


def unrolled(loop: InnerLoop, tap: Tap, num_steps: int, weights: Weights) -> MetaGradient:
    """The meta-gradient by differentiating the unrolled loop."""

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        assert task.support is not None

        def outer_loss(meta: MetaParams) -> tuple[Tensor, Metrics]:
            states = unroll(loop, meta, task.support, ctx, num_steps)  # type: ignore[arg-type]
            loss, metrics = tap(meta, states[-1], task, ctx, step_number(num_steps))
            if weights is None:
                return loss, metrics
            share = weights(ctx)
            loss = share[num_steps] * loss
            for k in range(num_steps):
                loss = loss + share[k] * tap(meta, states[k], task, ctx, step_number(k))[0]
            return loss, metrics

        gradient, (_, metrics) = grad_and_value(outer_loss, has_aux=True)(meta)
        return gradient, metrics

    return meta_gradient


def adjoint(
    loop: InnerLoop, tap: Tap, num_steps: int, weights: Weights, hessian: Hessian, lift: Lift = lambda piece: piece
) -> MetaGradient:
    """The meta-gradient by walking back; ``lift`` makes each piece one over tasks (and compiles it).

    ``hessian``: the product of a step's Hessian with a vector by ``reverse`` mode over reverse, or by ``forward``
    over reverse (Kemaev et al., "Scalable Meta-Learning via Mixed-Mode Differentiation", 2025).
    """

    def begin(meta: MetaParams, ctx: Context, k: Tensor, task: Task) -> InnerState:
        assert task.support is not None
        return loop.start(meta, task.support, ctx)

    def forward(meta: MetaParams, ctx: Context, k: Tensor, task: Task, state: InnerState) -> InnerState:
        assert task.support is not None
        return take_step(loop, meta, state, task.support, ctx, k)

    def tapped(meta: MetaParams, ctx: Context, k: Tensor, task: Task, state: InnerState) -> Any:
        def loss(meta: MetaParams, state: InnerState) -> tuple[Tensor, Metrics]:
            value, metrics = tap(meta, state, task, ctx, k)
            return (value if weights is None else weights(ctx).index_select(0, k.reshape(1))[0] * value), metrics

        return grad(loss, argnums=(0, 1), has_aux=True)(meta, state)

    def back(meta: MetaParams, ctx: Context, k: Tensor, task: Task, state: InnerState, lam: InnerState) -> Any:
        return _step_vjp(loop, meta, ctx, k, task, state, lam, hessian)

    def finish(meta: MetaParams, ctx: Context, k: Tensor, task: Task, lam: InnerState) -> MetaParams:
        assert task.support is not None
        _, pull = pullback(lambda meta: loop.start(meta, task.support, ctx), meta)  # type: ignore[arg-type]
        (slope,) = pull(lam)
        return slope  # type: ignore[no-any-return]

    begin, forward, tapped, back, finish = (lift(piece) for piece in (begin, forward, tapped, back, finish))

    def meta_gradient(meta: MetaParams, task: Task, ctx: Context) -> tuple[MetaParams, Metrics]:
        state, kept = begin(meta, ctx, step_number(0), task), []
        for k in range(num_steps):
            kept.append(keep(state))
            state = forward(meta, ctx, step_number(k), task, state)
        (total, lam), metrics = tapped(meta, ctx, step_number(num_steps), task, state)
        for k in reversed(range(num_steps)):
            state = restore(kept.pop())
            slope, lam = back(meta, ctx, step_number(k), task, state, lam)
            total = _sum(total, slope)
            if weights is not None:
                (slope, direct), _ = tapped(meta, ctx, step_number(k), task, state)
                total, lam = _sum(total, slope), _sum(lam, direct)
        return _sum(total, finish(meta, ctx, step_number(0), task, lam)), metrics

    return meta_gradient


def _step_vjp(
    loop: InnerLoop,
    meta: MetaParams,
    ctx: Context,
    k: Tensor,
    task: Task,
    state: InnerState,
    lam: InnerState,
    hessian: Hessian,
) -> tuple[MetaParams, InnerState]:
    """lam times the derivative of step k with respect to (phi, s[k]): that of the update, then of the slope in it."""
    assert task.support is not None
    data = loop.data(task.support, ctx, k)

    def loss(meta: MetaParams, params: Params) -> Tensor:
        return loop.loss(meta, params, data, ctx, k)

    def slope_at(meta: MetaParams, params: Params) -> Params:
        return grad(loss, argnums=1)(meta, params)  # type: ignore[no-any-return]

    through_slope = None
    if loop.curved and hessian == "reverse":
        slope, through_slope = pullback(slope_at, meta, state.params)
    else:
        slope = slope_at(meta, state.params)
    _, through_update = pullback(lambda meta, state, slope: loop.update(meta, state, slope, ctx, k), meta, state, slope)
    by_meta, by_state, by_slope = through_update(lam)
    if not loop.curved:
        return by_meta, by_state
    if through_slope is not None:
        more_meta, more_params = through_slope(by_slope)
    else:  # the Hessian is symmetric: its product is the slope's derivative along the vector
        more_meta, more_params = along(lambda params: grad(loss, argnums=(0, 1))(meta, params), state.params, by_slope)
    return _sum(by_meta, more_meta), by_state._replace(params=_sum(by_state.params, more_params))


def pullback(function: Callable[..., Any], *at: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """``function(*at)``, and a vector to its product with each derivative there."""
    found: Any = vjp(function, *at)
    value, pull = found
    return value, pull


def along(function: Callable[[Any], Any], at: Any, vector: Any) -> Any:
    """The derivative of ``function`` along ``vector``, by forward mode."""
    found: Any = jvp(function, (at,), (vector,))
    return found[1]


def _sum(one: Any, other: Any) -> Any:
    return tree_map(torch.add, one, other)
