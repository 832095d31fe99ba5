"""The start-up probe: can this model be meta-trained at all? One tiny batch says so, and names the cure."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, vmap

from metadist.errors import ModelError
from metadist.models.functional import Model
from metadist.own.code import told
from metadist.parameters import Params
from metadist.tasks import TaskSpec


def probe(
    model: Model, params: Params, spec: TaskSpec, *, outputs: int | None, second_order: bool, vmapped: bool
) -> None:
    """Try forward, gradient (of gradient), and that under vmap, on three inputs drawn from a fixed seed.

    Inputs are numbers in 0..1, or token ids where the model has a vocabulary.

    ``outputs`` is the width that the tasks need, None where any will do.

    Raises:
        ModelError: wrong output width, a value that is not finite, a draw from torch's global generator, a write into
            its input, no second derivative, or no vmap.
    """
    draw = torch.Generator().manual_seed(0)
    shape = (3, *spec.input_shape)
    ids = model.vocabulary
    x = torch.rand(shape, generator=draw) if ids is None else torch.randint(ids, shape, generator=draw)
    noise = torch.tensor(0) if model.drops else None
    with torch.random.fork_rng(devices=[]):
        before, given = torch.random.get_rng_state(), x.clone()
        try:
            found, _ = model.forward(params, x, None, noise)
        except Exception as error:
            raise ModelError(f"the model fails on inputs {shape}: {told(error)}") from error
        drew = not torch.equal(before, torch.random.get_rng_state())
    if drew:
        raise ModelError(
            "the model's forward draws from torch's global generator, so that a task's gradient would depend on what "
            "was computed before it; use nn.Dropout instead of functional dropout, whose noise follows from the task"
        )
    if not torch.equal(given, x):
        raise ModelError(
            "the model's forward writes into its input, which other passes of the same task see, too: let it make a "
            "new tensor (x = x * 2 instead of x.mul_(2) or x *= 2)"
        )
    if not isinstance(found, Tensor):
        raise ModelError(f"the model returns {type(found).__name__} on inputs {shape}; it must return one tensor")
    if found.dim() != 2 or len(found) != 3 or found.shape[1] != (outputs or found.shape[1]):
        raise ModelError(
            f"the model's outputs have shape {tuple(found.shape)} on 3 inputs; "
            f"the tasks need (3, {outputs or 'features'}), a value for each {'class' if outputs else 'feature'}"
        )
    if not bool(torch.isfinite(found).all()):
        raise ModelError("the model returns NaN or infinity on inputs between 0 and 1 at its initial weights")

    def adapted_loss(params: Params, x: Tensor) -> Tensor:
        if not second_order:
            return _loss(params, x)
        slope = grad(_loss)(params, x)
        return _loss({name: leaf - 0.01 * slope[name] for name, leaf in params.items()}, x)

    def _loss(params: Params, x: Tensor) -> Tensor:
        return (model.forward(params, x, None, noise)[0] ** 2).mean()

    try:
        grad(adapted_loss)(params, x)
    except Exception as error:
        raise ModelError(
            f"the model has no {'second derivative' if second_order else 'gradient'}: {told(error)}; "
            "algorithm.name fomaml, reptile or protonet needs first derivatives only"
        ) from error
    if not vmapped:
        return
    try:
        vmap(grad(adapted_loss), in_dims=(None, 0))(params, torch.stack([x, x]))
    except Exception as error:
        raise ModelError(
            f"the model cannot be vmapped over tasks: {told(error)}; "
            f"{model.advice or 'avoid in-place writes, .item() and branches on values'}, "
            "or set engine.tasks_axis: loop (slower)"
        ) from error
