"""A pretrained text encoder in the Hugging Face format from a local folder, with low-rank adapters.

Adapters: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. A linear layer W becomes
``W + alpha / rank * up @ down``; W is frozen, ``up`` starts at zero, so that the encoder starts as it was trained.

Differs from the paper: ``down`` starts as a linear layer of torch does; what is adapted is dropped by no dropout of its
own.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metadist.encoder_folder import encoder_folder
from metadist.errors import ModelError
from metadist.models.head import head_for
from metadist.models.sequence import mean_over_places, one_of
from metadist.tasks import TaskSpec

WEIGHTS = ("*.safetensors", "*.bin")


class Adapted(nn.Module):
    """A linear layer with a low-rank addition. Leaves: the layer's own, ``down`` (rank, in) and ``up`` (out, rank)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = layer.weight, layer.bias, alpha / rank
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(F.linear(x, self.down), self.up)


class TextEncoder(nn.Module):
    """Token ids to (N, W): the encoder's last layer, pooled; then the head.

    Attributes:
        vocabulary: Number of different token ids.

    Leaves: ``encoder.*`` under the names of the pretrained model, ``head.*``.
    """

    def __init__(self, encoder: nn.Module, pooling: str) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder, self.pooling, self.padding = encoder, pooling, config.pad_token_id
        self.features, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.head: nn.Module = nn.Identity()

    def forward(self, x: Tensor | None = None, ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """One of ``x`` and ``ids``, both (N, L) token ids of any dtype; ``mask`` (N, L) is zero at padding, and where
        there is none, places with the encoder's own padding id are not looked at."""
        tokens = one_of(x, ids).long()
        counts = tokens != (-1 if self.padding is None else self.padding) if mask is None else mask != 0
        # A boolean mask of four dimensions is taken as it is; from one of two the library decides by values.
        looked_at = counts[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
        states = self.encoder(input_ids=tokens, attention_mask=looked_at).last_hidden_state
        pooled = states[:, 0] if self.pooling == "first" else mean_over_places(states, counts)
        out: Tensor = self.head(pooled)
        return out


def build(
    spec: TaskSpec,
    *,
    path: str,
    train: Literal["adapters", "head", "all"] = "adapters",
    rank: int = 8,
    alpha: float = 16.0,
    match: tuple[str, ...] | list[str] = ("*query*", "*value*", "*q_lin*", "*v_lin*", "*q_proj*", "*v_proj*", "*Wqkv*"),
    pooling: Literal["mean", "first"] = "mean",
    dropout: float = 0.0,
    zero_head: bool = True,
    embedding: bool = False,
) -> nn.Module:
    """The encoder in ``path`` for ``spec``; nothing is ever downloaded.

    Args:
        spec: Its ``input_shape`` is (length,).
        path: Folder with ``config.json`` and the weights, or its name below ``METADIST_HOME/encoders``.
            Without weights it starts at random.
        train: What is meta-learned beside the head: ``adapters``, nothing (``head``), or ``all``.
        rank: Of the adapters.
        alpha: Their factor is ``alpha / rank``.
        match: Name patterns of the linear layers that get adapters.
        pooling: ``mean`` over the places that count, or the ``first`` place.
        dropout: Share that is dropped in training where the encoder has dropout layers.
        zero_head: Start the head at zero, so that no class has a place of its own.
        embedding: No head: the outputs are the features.

    Raises:
        ModelError: the library or the folder is missing, or no layer matches.
    """
    if len(spec.input_shape) != 1:
        raise ModelError(f"encoder needs token ids (length,); the task's inputs are {spec.input_shape}")
    if train not in ("adapters", "head", "all") or pooling not in ("mean", "first"):
        raise ModelError(f"encoder: train is {train!r} (adapters, head, all), pooling is {pooling!r} (mean, first)")
    encoder = _load(path)
    encoder.requires_grad_(train == "all")
    for layer in encoder.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
    if train == "adapters":
        adapt_layers(encoder, match, rank, alpha)
    net = TextEncoder(encoder.eval(), pooling)
    net.head = head_for(spec, net.features, zero_head=zero_head, embedding=embedding)
    return net


def adapt_layers(encoder: nn.Module, match: tuple[str, ...] | list[str], rank: int, alpha: float) -> None:
    """Give adapters to the linear layers of ``encoder`` whose name matches, in place.

    Raises:
        ModelError: none matches, or the rank is not positive.
    """
    linear = {name: layer for name, layer in encoder.named_modules() if type(layer) is nn.Linear}
    names = [name for name in linear if any(fnmatchcase(name, pattern) for pattern in match)]
    if rank < 1 or not names:
        raise ModelError(
            f"encoder: rank {rank}, match {list(match)}: needs a rank of 1 or more and at least one linear layer; "
            f"there are {', '.join(linear) or 'none'}"
        )
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(encoder.get_submodule(parent), last, Adapted(linear[name], rank, alpha))


def _load(path: str) -> nn.Module:
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ModelError(
            "model encoder needs the library transformers: pip install 'metadist[text]' (on every node)"
        ) from error
    disable_progress_bar()  # a bar a worker, for files that are read in a moment
    folder = encoder_folder(path)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"encoder: {folder.absolute()} has no config.json; name a folder that save_pretrained wrote, or one below "
            "METADIST_HOME/encoders"
        )
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    try:
        if any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
            encoder = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32, **options)
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            encoder = AutoModel.from_config(config, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"encoder: {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # it is not on the way to the features, and would be a leaf without a gradient
    module: nn.Module = encoder
    return module
