"""The last layer of a classifier or a regression, which the shipped nets share."""

from __future__ import annotations

from torch import nn

from metadist.tasks import TaskSpec


def head_for(spec: TaskSpec, features: int, *, zero_head: bool, embedding: bool) -> nn.Module:
    """A linear layer to the task's outputs, from zero where ``zero_head``; the identity for an embedding."""
    if embedding:
        return nn.Identity()
    head = nn.Linear(features, spec.outputs)
    if zero_head:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return head
