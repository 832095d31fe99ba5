"""Torch's layers that a task cannot be adapted through, replaced by ours that mean the same."""

from __future__ import annotations

from torch import nn

from metadist.models.dropout import Dropout
from metadist.models.normalisation import BatchNorm


def use_ours(module: nn.Module) -> nn.Module:
    """Replace ``nn.BatchNorm*(track_running_stats=False)`` and ``nn.Dropout`` in ``module``, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and not child.track_running_stats:
            ours = BatchNorm(child.num_features, child.eps, child.affine)
            if child.affine:
                ours.weight, ours.bias = child.weight, child.bias
            setattr(module, name, ours)
        elif type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            use_ours(child)
    return module
