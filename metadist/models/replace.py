"""Torch's layers that a task cannot be adapted through: replaced by ours that mean the same, refused, or advised on."""

from __future__ import annotations

from torch import nn

from metadist.errors import ModelError
from metadist.models.dropout import Dropout
from metadist.models.normalisation import BatchNorm


def use_ours(module: nn.Module) -> nn.Module:
    """Replace ``nn.BatchNorm*(track_running_stats=False)`` and ``nn.Dropout`` in ``module``, in place.

    Raises:
        ModelError: a layer drops in another way, from torch's global generator.
    """
    _replace(module, "", {})
    return module


def _replace(module: nn.Module, path: str, done: dict[nn.Module, nn.Module]) -> None:
    # Not named_children(), which leaves out a layer that stands in a second place.
    for name, child in module._modules.items():
        if child is None:
            continue
        place = f"{path}{name}"
        if child not in done:
            done[child] = _ours(child, place)
            if done[child] is child:
                _replace(child, f"{place}.", done)
        setattr(module, name, done[child])


def _ours(layer: nn.Module, place: str) -> nn.Module:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not layer.track_running_stats:
        ours = BatchNorm(layer.num_features, layer.eps, layer.affine)
        if layer.affine:
            ours.weight, ours.bias = layer.weight, layer.bias
        return ours
    if type(layer) is nn.Dropout:
        return Dropout(layer.p)
    if isinstance(layer, nn.modules.dropout._DropoutNd | nn.RReLU):
        raise ModelError(
            f"layer {place!r} ({type(layer).__name__}) draws from torch's global generator, so that a task's gradient "
            "would depend on what was computed before it; use nn.Dropout, whose noise follows from the task"
        )
    drops = layer.dropout if isinstance(layer, nn.RNNBase | nn.MultiheadAttention) else 0.0
    if drops:
        raise ModelError(
            f"layer {place!r} ({type(layer).__name__} with dropout {drops}) draws from torch's global generator; "
            "build it with dropout=0.0 and put nn.Dropout after it, whose noise follows from the task"
        )
    return layer


def advice(module: nn.Module) -> str:
    """What to do about a layer of ``module`` that is known to fail under vmap; empty where there is none."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.RNNBase):
            return (
                f"layer {name!r} ({type(layer).__name__}): torch's recurrent layers have no second derivative under "
                "vmap; use metadist.models.gru.GRUCell, which is written in plain operations, or model.name gru"
            )
    return ""
