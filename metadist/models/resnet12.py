"""ResNet-12 of few-shot learning (Oreshkin et al., TADAM, 2018; widths of Lee et al., MetaOptNet, CVPR 2019).

Four residual blocks of three 3x3 convolutions, each with norm and LeakyReLU(0.1), a 1x1 convolution with norm
beside them, and 2x2 max-pooling at the end. Differs from MetaOptNet: dropout zeroes values one by one, theirs
(DropBlock) squares of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.models.dropout import Dropout
from metadist.models.head import head_for
from metadist.models.normalisation import norm_layer
from metadist.tasks import TaskSpec

BLOCKS = 4
SLOPE = 0.1


class ResNet12(nn.Module):
    """(N, C, H, W) to (N, features), until `build` adds a head.

    Leaves: ``blocks.<i>.convs.<j>.*``, ``blocks.<i>.norms.<j>.*``, ``blocks.<i>.shortcut.<0|1>.*``, ``head.*``.
    """

    def __init__(self, channels: int, widths: Sequence[int], norm: str, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(a, b, norm, dropout) for a, b in pairwise([channels, *widths]))
        self.features = widths[-1]
        self.maskable = norm != "batch"
        self.head: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(before, width, 3, norm) for before in (inputs, width, width))
        self.norms = nn.ModuleList(norm_layer(norm, width) for _ in self.convs)
        self.shortcut = nn.Sequential(_conv(inputs, width, 1, norm), norm_layer(norm, width))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        beside, last = self.shortcut(x), len(self.convs) - 1
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = nn.functional.leaky_relu(x + beside if place == last else x, SLOPE)
        out: Tensor = self.drop(nn.functional.max_pool2d(x, 2))
        return out


def _conv(inputs: int, outputs: int, size: int, norm: str) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")
    return conv


def build(
    spec: TaskSpec,
    *,
    widths: Sequence[int] = (64, 160, 320, 640),
    norm: Literal["batch", "group", "layer", "none"] = "batch",
    dropout: float = 0.0,
    zero_head: bool = False,
    embedding: bool = False,
) -> nn.Module:
    """ResNet-12 for ``spec``.

    Args:
        spec: Its ``input_shape`` must be (channels, height, width), at least 16 high and wide.
        widths: Maps of the four blocks; TADAM has 64, 128, 256, 512.
        norm: What normalises a block: ``group`` (8 groups) and ``layer`` look at one image alone.
        dropout: Share of a block's outputs that are dropped in training.
        zero_head: Start the head at zero, so that no class has a place of its own.
        embedding: No head: the outputs are the features, averaged over the last maps.
    """
    if len(spec.input_shape) != 3:
        raise ModelError(f"resnet12 needs images (channels, height, width); the task's inputs are {spec.input_shape}")
    if len(widths) != BLOCKS:
        raise ModelError(f"resnet12 has {BLOCKS} blocks; model.options.widths {list(widths)} names {len(widths)}")
    channels, height, width = spec.input_shape
    if min(height, width) < 2**BLOCKS:
        raise ModelError(f"resnet12 halves an image {BLOCKS} times; {height}x{width} is too small, 16x16 is the least")
    net = ResNet12(channels, widths, norm, dropout)
    net.head = head_for(spec, net.features, zero_head=zero_head, embedding=embedding)
    return net
