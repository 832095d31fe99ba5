"""What the sequence encoders share: the way in, the mean over places that count, and the head.

Legend: N examples, L places, D values a place, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.models.head import head_for
from metadist.tasks import TaskSpec


class SequenceNet(nn.Module):
    """Sequences to (N, W): embedding, encoder, mean over the places that count; then the head.

    Attributes:
        vocabulary: Number of different token ids, None where a place holds D numbers. The start-up probe draws
            its inputs by it, here and in a module of a user's own.

    Leaves: ``embed.*``, ``encoder.*``, ``head.*``.
    """

    maskable = True

    def __init__(self, embed: nn.Module, encoder: nn.Module, width: int, vocabulary: int | None) -> None:
        super().__init__()
        self.embed, self.encoder, self.features, self.vocabulary = embed, encoder, width, vocabulary
        self.head: nn.Module = nn.Identity()

    def forward(self, x: Tensor | None = None, ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """One of ``x`` (N, L, D; or (N, L) token ids) and ``ids`` (N, L); ``mask`` (N, L) is zero at padding.

        Token ids are whole numbers of any dtype. A sequence without a place that counts has the features zero.
        """
        tokens = one_of(x, ids)
        counts = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask != 0
        encoded = self.encoder(self.embed(tokens if self.vocabulary is None else tokens.long()), counts)
        out: Tensor = self.head(mean_over_places(encoded, counts))
        return out


def one_of(x: Tensor | None, ids: Tensor | None) -> Tensor:
    """Whichever was given.

    Raises:
        ModelError: both or none.
    """
    if x is not None and ids is None:
        return x
    if ids is not None and x is None:
        return ids
    raise ModelError("a sequence model takes x or ids, and one of them only")


def mean_over_places(states: Tensor, counts: Tensor) -> Tensor:
    """(N, L, W) and a boolean mask (N, L) of the places that count to (N, W); zero where none does."""
    share = counts.to(states.dtype)[:, :, None]
    return (states * share).sum(1) / share.sum(1).clamp(min=1)


def sequence_net(
    name: str,
    spec: TaskSpec,
    encoder: Callable[[], nn.Module],
    *,
    width: int,
    vocabulary: int | None,
    zero_head: bool,
    embedding: bool,
) -> nn.Module:
    """The net called ``name`` for ``spec``; ``encoder`` maps (N, L, W) and a boolean mask (N, L) to (N, L, W).

    Raises:
        ModelError: the task's inputs are not sequences of that kind.
    """
    embed: nn.Module
    vocabulary = spec.vocabulary if vocabulary is None else vocabulary
    if vocabulary is not None and vocabulary < (spec.vocabulary or 0):
        raise ModelError(f"model.options.vocabulary is {vocabulary}; the tasks have {spec.vocabulary} token ids")
    if vocabulary is not None and vocabulary < 1:
        raise ModelError(f"model.options.vocabulary is {vocabulary}; it is the number of different token ids")
    if vocabulary is None:
        if len(spec.input_shape) != 2:
            raise ModelError(
                f"{name} needs sequences (length, values); the task's inputs are {spec.input_shape}; "
                "for token ids (length,) set model.options.vocabulary to the number of different ids"
            )
        embed = nn.Linear(spec.input_shape[1], width)
    else:
        if len(spec.input_shape) != 1:
            raise ModelError(f"{name} with a vocabulary needs ids (length,); the task's inputs are {spec.input_shape}")
        embed = nn.Embedding(vocabulary, width)
    net = SequenceNet(embed, encoder(), width, vocabulary)
    net.head = head_for(spec, width, zero_head=zero_head, embedding=embedding)
    return net
