"""A transformer encoder with the norm before each half (Vaswani et al. 2017; Xiong et al. 2020), in plain operations:
torch's fused attention has no second derivative on a CPU (a user's own layers run unfused, see `metadist.numerics`).

Differs from the first: attention has no bias (a key's bias changes no softmax), attention weights are not dropped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.models.dropout import Dropout
from metadist.models.sequence import sequence_net
from metadist.tasks import TaskSpec

WIDER = 4  # the hidden layer of a block against its width
LONGEST = 10_000.0


class Attention(nn.Module):
    """Self-attention of several heads: (N, L, W) and a boolean mask (N, L) of the places to look at, to (N, L, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ModelError(f"model.options.width {width} is not a multiple of model.options.heads {heads}")
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)  # query, key, value
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        size, length, width = x.shape
        parts = self.inputs(x).reshape(size, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, L, W / heads)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        # Not minus infinity: a sequence without a place that counts would be NaN.
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
        found = scores.softmax(-1) @ value
        out: Tensor = self.output(found.transpose(1, 2).reshape(size, length, width))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, WIDER * width), nn.GELU(), nn.Linear(WIDER * width, width))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.attention_norm(x), mask))
        out: Tensor = x + self.drop(self.mlp(self.mlp_norm(x)))
        return out


class Transformer(nn.Module):
    """Sinusoids of the places, blocks, and a norm. (N, L, W) and a mask (N, L) to (N, L, W)."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.final = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + positions(x)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.final(x)
        return out


def positions(x: Tensor) -> Tensor:
    """(L, W) for ``x`` (N, L, W): sines in the even, cosines in the odd columns (Vaswani et al., section 3.5)."""
    _, length, width = x.shape
    place = torch.arange(length, dtype=x.dtype, device=x.device)[:, None]
    column = torch.arange(width, device=x.device)
    angle = place * LONGEST ** (-(column // 2 * 2).to(x.dtype) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


def build(
    spec: TaskSpec,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    vocabulary: int | None = None,
    zero_head: bool = False,
    embedding: bool = False,
) -> nn.Module:
    """The transformer for ``spec``; its features are the mean of the last layer over the places that count.

    Args:
        spec: Its ``input_shape`` is (length, values), or (length,) for token ids.
        width: Of the embedding and of every layer, a multiple of ``heads``.
        layers: Blocks of attention and a hidden layer four times as wide.
        heads: Of an attention.
        dropout: Share of what each half of a block adds that is dropped in training.
        vocabulary: Number of different token ids; None for that of the tasks, or for sequences of numbers.
        zero_head: Start the head at zero, so that no class has a place of its own.
        embedding: No head: the outputs are the features.
    """
    return sequence_net(
        "transformer",
        spec,
        lambda: Transformer(width, layers, heads, dropout),
        width=width,
        vocabulary=vocabulary,
        zero_head=zero_head,
        embedding=embedding,
    )
