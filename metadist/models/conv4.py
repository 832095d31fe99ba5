"""Conv4: four blocks of 3x3 convolution, batch norm and ReLU (Vinyals et al. 2016, Finn et al. 2017).

``form: stride`` halves the image by the convolution's stride and averages the last map (Omniglot in the MAML
paper); ``form: pool`` halves it by max-pooling and flattens (mini-ImageNet). Convolutions have no bias, since
batch norm would cancel it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.models.head import head_for
from metadist.models.normalisation import norm_layer
from metadist.tasks import TaskSpec

BLOCKS = 4
MODULATED = 2  # the block whose maps a context scales and shifts (CAVIA's FiLM layer follows its third convolution)
Film = Literal["block", "features"]


class Conv4(nn.Module):
    """(N, C, H, W) to (N, features), until `build` adds a head.

    Leaves: ``blocks.<i>.conv.*``, ``blocks.<i>.norm.*``, ``head.*``, ``film.*``, ``context``.
    """

    def __init__(
        self,
        channels: int,
        image: tuple[int, int],
        filters: int,
        form: str,
        *,
        averaged: bool,
        norm: str,
        context: int,
        film: Film,
    ) -> None:
        super().__init__()
        widths = [channels] + [filters] * BLOCKS
        self.blocks = nn.ModuleList(_Block(a, b, form, norm) for a, b in pairwise(widths))
        self.averaged = averaged
        self.maskable = norm != "batch"
        height, width = image
        for _ in range(BLOCKS):
            height, width = _halved(height, form), _halved(width, form)
        features = filters * (1 if averaged and height * width else height * width)
        if features == 0:
            raise ModelError(
                f"conv4 halves an image {BLOCKS} times; {image[0]}x{image[1]} is too small for form {form}"
            )
        self.features = features
        self.context = nn.Parameter(torch.zeros(context)) if context else None
        self.film = nn.Linear(context, 2 * (filters if film == "block" else features)) if context else None
        self.film_after = MODULATED if film == "block" else BLOCKS
        self.head: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = self.modulated(block(x), index)
        features = x.mean((2, 3)) if self.averaged else x.flatten(1)
        out: Tensor = self.head(self.modulated(features, BLOCKS))
        return out

    def modulated(self, x: Tensor, place: int) -> Tensor:
        """(N, C, ...) scaled and shifted by the context, where this is the place for it."""
        if self.film is None or place != self.film_after:
            return x
        both: Tensor = self.film(self.context)
        scale, shift = both.reshape(2, -1, *[1] * (x.dim() - 2)).unbind()
        return x * (1 + scale) + shift


class _Block(nn.Module):
    def __init__(self, inputs: int, filters: int, form: str, norm: str) -> None:
        super().__init__()
        stride = 2 if form == "stride" else 1
        self.conv = nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=norm == "none")
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = norm_layer(norm, filters)
        self.pool = form == "pool"

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return nn.functional.max_pool2d(x, 2) if self.pool else x


def _halved(size: int, form: str) -> int:
    return (size + 1) // 2 if form == "stride" else size // 2


def build(
    spec: TaskSpec,
    *,
    filters: int = 64,
    form: Literal["stride", "pool"] = "stride",
    norm: Literal["batch", "group", "layer", "none"] = "batch",
    context: int = 0,
    film: Film = "block",
    zero_head: bool = False,
    embedding: bool = False,
) -> nn.Module:
    """Conv4 for ``spec``.

    Args:
        spec: Its ``input_shape`` must be (channels, height, width).
        filters: Filters a block (the paper: 64 for Omniglot, 32 for mini-ImageNet).
        form: ``stride`` or ``pool``.
        norm: What normalises a block: ``group`` (8 groups) and ``layer`` look at one image alone.
        context: Values, zero at first, that scale and shift (CAVIA adapts them alone).
        film: What the context scales and shifts: the third block's maps (as the paper), or the ``features``, each by
            itself and not averaged: a head then tells classes apart that the maps as a whole cannot.
        zero_head: Start the head at zero: the first inner step then builds it from the support features
            alone, and no class has a place of its own (compare Ye and Chao 2022).
        embedding: No head: the outputs are the features, flattened (ProtoNet).
    """
    if len(spec.input_shape) != 3:
        raise ModelError(f"conv4 needs images (channels, height, width); the task's inputs are {spec.input_shape}")
    channels, height, width = spec.input_shape
    net = Conv4(
        channels,
        (height, width),
        filters,
        form,
        averaged=form == "stride" and not embedding and not (context and film == "features"),
        norm=norm,
        context=context,
        film=film,
    )
    net.head = head_for(spec, net.features, zero_head=zero_head, embedding=embedding)
    return net
