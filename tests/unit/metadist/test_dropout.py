"""Dropout as data: what it drops, how it takes the place of torch's, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.models import functional_model
from metadist.models.dropout import Dropout
from metadist.models.probe import probe
from metadist.tasks import TaskSpec

SEQUENCES = TaskSpec(kind="classes", input_shape=(5, 4), outputs=3, shots=1, queries=1)
KEY = torch.tensor(11)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_about_p_is_dropped_and_the_expected_value_kept(p: float) -> None:
    layer, count = Dropout(p), 100_000
    layer.key = KEY
    found = layer(torch.full((count,), 3.0, dtype=torch.float64))
    spread = (p * (1 - p) / count) ** 0.5
    assert abs(float((found == 0).double().mean()) - p) < 4 * spread
    assert abs(float(found.mean()) - 3) < 4 * 3 * spread / (1 - p)
    kept = found[found != 0]
    assert torch.allclose(kept, torch.full_like(kept, 3 / (1 - p)))


def passed(model: nn.Module, key: Tensor | None) -> Tensor:
    """Outputs of a net of dropouts on ones, with a leaf beside them to be learned."""
    functional = functional_model(lambda: nn.Sequential(model, Scale()), seed=0)
    return functional.forward(functional.initial(0), torch.ones(40, 25), None, key)[0]


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_the_same_key_drops_the_same_and_another_key_other_values() -> None:
    for _ in range(2):
        assert torch.equal(passed(nn.Dropout(0.5), KEY), passed(nn.Dropout(0.5), KEY))
        torch.rand(3)  # what torch's generator does between is of no matter
    assert not torch.equal(passed(nn.Dropout(0.5), KEY), passed(nn.Dropout(0.5), KEY + 1))
    assert torch.equal(passed(nn.Dropout(0.5), None), torch.ones(40, 25))


def test_layers_and_calls_drop_independently() -> None:
    """Of two halvings a quarter is left; had they the same noise, a half would be."""
    shared = nn.Dropout(0.5)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.drop(self.drop(x)))

    for model in (nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)), nn.Sequential(shared, shared), Twice()):
        left = float((passed(model, KEY) != 0).double().mean())
        assert abs(left - 0.25) < 4 * (0.25 * 0.75 / 1000) ** 0.5


def test_a_layer_that_stands_twice_stays_one_layer() -> None:
    norm, drop = nn.BatchNorm1d(4, track_running_stats=False), nn.Dropout(0.5)
    model = functional_model(lambda: nn.Sequential(nn.Linear(4, 4), norm, drop, nn.Linear(4, 4), norm, drop), seed=0)
    assert [name for name in model.names if name in model.norm_leaves] == ["1.weight", "1.bias"]
    assert not any(name.startswith("4.") for name in model.names)
    assert model.drops


def test_a_net_whose_dropouts_never_drop_needs_no_noise() -> None:
    assert not functional_model(lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0)), seed=0).drops


class Users(nn.Module):
    """A sequence model of a user's with one layer of torch's."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.call = nn.ModuleDict({"layer": layer}), call
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.call(self.inside["layer"], x).mean(1)))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Dropout2d(), "Dropout2d.*use nn.Dropout"),
        (nn.AlphaDropout(), "AlphaDropout.*use nn.Dropout"),
        (nn.RReLU(), "RReLU"),
        (nn.GRU(4, 4, 2, dropout=0.2), "GRU with dropout 0.2.*dropout=0.0 and put nn.Dropout after it"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "MultiheadAttention with dropout 0.1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_noise_that_is_not_data_is_refused(layer: nn.Module, words: str) -> None:
    with pytest.raises(ModelError, match="layer 'inside.layer' .*" + words):
        functional_model(lambda: Users(layer, lambda layer, x: layer(x)), seed=0)


@pytest.mark.parametrize("p", [1.0, -0.1])
def test_p_lies_below_one(p: float) -> None:
    with pytest.raises(ModelError, match=rf"dropout p is {p}"):
        Dropout(p)


def dropped_by_function(layer: nn.Module, x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.3)


def attended(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.as_tensor(layer(x, x, x, need_weights=False)[0])


def encoded(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.as_tensor(layer(x, src_key_padding_mask=x[:, :, 0] < 0.2))


@pytest.mark.parametrize(
    ("layer", "call", "words"),
    [
        (nn.Identity(), dropped_by_function, "draws from torch's global generator.*nn.Dropout"),
        (nn.GRU(4, 4, batch_first=True), lambda layer, x: layer(x)[0], r"'inside.layer' \(GRU\).*models.gru.GRUCell"),
    ],
    ids=["functional", "gru"],
)
def test_the_probe_names_the_cure(layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], words: str) -> None:
    model = functional_model(lambda: Users(layer, call), seed=0)
    with pytest.raises(ModelError, match=words):
        probe(model, model.initial(0), SEQUENCES, outputs=3, second_order=True, vmapped=True)


@pytest.mark.parametrize(
    ("layer", "call"),
    [
        (nn.MultiheadAttention(4, 2, batch_first=True), attended),
        (nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), encoded),
    ],
    ids=["attention", "transformer"],
)
def test_torchs_attention_can_be_meta_trained(layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model = functional_model(lambda: Users(layer, call), seed=0)
    probe(model, model.initial(0), SEQUENCES, outputs=3, second_order=True, vmapped=True)


def test_the_probe_leaves_torchs_generator_alone() -> None:
    model = functional_model(lambda: Users(nn.Identity(), dropped_by_function), seed=0)
    before = torch.random.get_rng_state()
    with pytest.raises(ModelError):
        probe(model, model.initial(0), SEQUENCES, outputs=3, second_order=False, vmapped=False)
    assert torch.equal(before, torch.random.get_rng_state())
