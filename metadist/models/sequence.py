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
        if (x is None) == (ids is None):
            raise ModelError("a sequence model takes x or ids, and one of them only")
        tokens = x if x is not None else ids
        assert tokens is not None
        counts = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask != 0
        encoded = self.encoder(self.embed(tokens if self.vocabulary is None else tokens.long()), counts)
        share = counts.to(encoded.dtype)[:, :, None]
        out: Tensor = self.head((encoded * share).sum(1) / share.sum(1).clamp(min=1))
        return out


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
