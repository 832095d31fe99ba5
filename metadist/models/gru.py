"""A GRU in plain operations (Cho et al. 2014, with the gates of ``nn.GRU``), which has no second derivative under
vmap.

    r, z = sigmoid(W_r x + b_r + U_r h + c_r), sigmoid(W_z x + b_z + U_z h + c_z)
    n = tanh(W_n x + b_n + r * (U_n h + c_n))
    h = (1 - z) * n + z * h
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metadist.models.dropout import Dropout
from metadist.models.sequence import sequence_net
from metadist.tasks import TaskSpec


class GRUCell(nn.Module):
    """One layer over a whole sequence; rows of its weights are in the order r, z, n, as in ``nn.GRU``."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 3 * width)
        self.recurrent = nn.Linear(width, 3 * width)
        for leaf in self.parameters():
            nn.init.uniform_(leaf, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D) and a boolean (N, L) to the states (N, L, W); a place that does not count leaves the state."""
        wanted = self.input(x)
        state = x.new_zeros(len(x), self.recurrent.in_features)
        states = []
        for place in range(x.shape[1]):
            r_x, z_x, n_x = wanted[:, place].chunk(3, 1)
            r_h, z_h, n_h = self.recurrent(state).chunk(3, 1)
            z = torch.sigmoid(z_x + z_h)
            new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            state = torch.where(mask[:, place, None], (1 - z) * new + z * state, state)
            states.append(state)
        return torch.stack(states, 1)


class GRU(nn.Module):
    """``layers`` cells above each other, with dropout after each. (N, L, W) and a mask (N, L) to (N, L, W)."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cells = nn.ModuleList(GRUCell(width, width) for _ in range(layers))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for cell in self.cells:
            x = self.drop(cell(x, mask))
        return x


def build(
    spec: TaskSpec,
    *,
    width: int = 64,
    layers: int = 1,
    dropout: float = 0.0,
    vocabulary: int | None = None,
    zero_head: bool = False,
    embedding: bool = False,
) -> nn.Module:
    """The GRU for ``spec``; its features are the mean of the last layer's states.

    Args:
        spec: Its ``input_shape`` is (length, values), or (length,) for token ids.
        width: Of the embedding and of the states.
        layers: Cells above each other.
        dropout: Share of a layer's states that are dropped in training.
        vocabulary: Number of different token ids; None for that of the tasks, or for sequences of numbers.
        zero_head: Start the head at zero, so that no class has a place of its own.
        embedding: No head: the outputs are the features.
    """
    return sequence_net(
        "gru",
        spec,
        lambda: GRU(width, layers, dropout),
        width=width,
        vocabulary=vocabulary,
        zero_head=zero_head,
        embedding=embedding,
    )
