"""Nets as pure functions: normalisation, the start-up probe, weights from a file; and weighted objectives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from metadist.config import ModelConfig
from metadist.errors import ModelError
from metadist.models import build_model, functional_model
from metadist.models.normalisation import BatchNorm
from metadist.models.probe import probe
from metadist.objectives import classification, regression
from metadist.tasks import Batch, TaskSpec

IMAGES = TaskSpec(kind="classes", input_shape=(1, 28, 28), outputs=5, shots=1, queries=1)
POINTS = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=1, queries=1)


@pytest.mark.parametrize(("axes", "make"), [((6, 5), nn.BatchNorm1d), ((6, 5, 4, 3), nn.BatchNorm2d)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(axes: tuple[int, ...], make: Any, affine: bool) -> None:
    x = torch.randn(axes, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1
    theirs = make(5, track_running_stats=False, affine=affine).double()
    ours = BatchNorm(5, affine=affine).double()
    if affine:
        with torch.no_grad():
            for layer in (theirs, ours):
                layer.weight.copy_(torch.linspace(0.5, 2, 5))
                layer.bias.copy_(torch.linspace(-1, 1, 5))
    assert torch.allclose(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    given = BatchNorm(5, affine=affine, given=True).double()
    given.load_state_dict(ours.state_dict(), strict=True)
    given.mean, given.var = ours.mean, ours.var
    assert torch.allclose(given(x), theirs(x), rtol=1e-12, atol=1e-12)
    assert torch.allclose(given(x[:1]), theirs(x)[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "spec", "width"),
    [
        ({"filters": 4}, IMAGES, 5),
        ({"filters": 4, "form": "pool"}, IMAGES, 5),
        ({"filters": 4, "zero_head": True}, IMAGES, 5),
    ],
)
def test_conv4(options: dict[str, Any], spec: TaskSpec, width: int) -> None:
    model = build_model(ModelConfig(name="conv4", options=options), spec, 0)
    outputs, statistics = model.forward(model.initial(0), torch.rand(7, *spec.input_shape), None)
    assert outputs.shape == (7, width)
    assert len(statistics) == 8 and not model.frozen
    assert bool((outputs == 0).all()) == bool(options.get("zero_head"))
    embedding = build_model(ModelConfig(name="conv4", options=options), spec, 0, embedding=True)
    assert not any(name.startswith("head") for name in embedding.names)
    assert embedding.forward(embedding.initial(0), torch.rand(7, *spec.input_shape), None)[0].dim() == 2


def test_conv4_wants_images_that_are_large_enough() -> None:
    small = TaskSpec(kind="classes", input_shape=(1, 8, 8), outputs=5, shots=1, queries=1)
    with pytest.raises(ModelError, match="8x8 is too small for form pool"):
        build_model(ModelConfig(name="conv4", options={"form": "pool"}), small, 0)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_resnet12(norm: str) -> None:
    options = {"widths": [4, 5, 6, 7], "norm": norm}
    model = build_model(ModelConfig(name="resnet12", options=options), IMAGES, 0)
    outputs, statistics = model.forward(model.initial(0), torch.rand(6, *IMAGES.input_shape), None)
    assert outputs.shape == (6, 5)
    assert len(statistics) == (2 * 4 * 4 if norm == "batch" else 0)
    assert any(name.endswith("convs.0.bias") for name in model.names) == (norm == "none")
    assert not model.drops and not model.frozen
    embedding = build_model(ModelConfig(name="resnet12", options=options), IMAGES, 0, embedding=True)
    assert set(model.names) - set(embedding.names) == {"head.weight", "head.bias"}
    assert embedding.forward(embedding.initial(0), torch.rand(6, *IMAGES.input_shape), None)[0].shape == (6, 7)
    zero = build_model(ModelConfig(name="resnet12", options={**options, "zero_head": True}), IMAGES, 0)
    assert bool((zero.forward(zero.initial(0), torch.rand(6, *IMAGES.input_shape), None)[0] == 0).all())


def test_resnet12_has_the_size_of_the_papers() -> None:
    """12.4 million values, as the literature counts the embedding for colour images."""
    images = TaskSpec(kind="classes", input_shape=(3, 84, 84), outputs=5, shots=1, queries=1)
    model = build_model(ModelConfig(name="resnet12"), images, 0, embedding=True)
    assert sum(leaf.numel() for leaf in model.initial(0).values()) == 12_424_320


def test_resnet12_drops_where_it_is_told_to() -> None:
    model = build_model(ModelConfig(name="resnet12", options={"widths": [4] * 4, "dropout": 0.4}), IMAGES, 0)
    params, x = model.initial(0), torch.rand(6, *IMAGES.input_shape)
    assert model.drops
    still, one, other = (model.forward(params, x, None, noise)[0] for noise in (None, *torch.arange(2)))
    assert torch.equal(still, model.forward(params, x)[0])
    assert not torch.allclose(still, one) and not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (POINTS, {}, r"resnet12 needs images.*\(4,\)"),
        (IMAGES, {"widths": [4, 4]}, "4 blocks.* names 2"),
        (replace(IMAGES, input_shape=(1, 15, 20)), {}, "15x20 is too small, 16x16"),
        (IMAGES, {"norm": "instance"}, "norm 'instance' is not known"),
    ],
)
def test_resnet12_refuses_what_does_not_fit(spec: TaskSpec, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build_model(ModelConfig(name="resnet12", options=options), spec, 0)


@pytest.mark.parametrize("norm", ["group", "layer", "none", "batch"])
@pytest.mark.parametrize("net", [{"name": "conv4", "filters": 16}, {"name": "resnet12", "widths": [16] * 4}])
def test_only_batch_norm_looks_at_other_images(net: dict[str, Any], norm: str) -> None:
    name, options = net["name"], {key: value for key, value in net.items() if key != "name"}
    model = build_model(ModelConfig(name=name, options={**options, "norm": norm}), IMAGES, 0)
    params = {leaf_name: leaf.double() for leaf_name, leaf in model.initial(0).items()}
    x = torch.rand(5, *IMAGES.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    others = torch.cat([x[:1], 3 * x[1:] + 1])
    first, second = (model.forward(params, inputs)[0][0] for inputs in (x, others))
    assert torch.allclose(first, second, rtol=1e-12, atol=1e-12) == (norm != "batch")
    if norm != "batch":
        assert torch.allclose(first, model.forward(params, x[:1])[0][0], rtol=1e-12, atol=1e-12)
    if norm in ("group", "layer") and name == "conv4":
        small = build_model(ModelConfig(name=name, options={"filters": 4, "norm": norm}), IMAGES, 0)
        probe(small, small.initial(0), IMAGES, outputs=5, second_order=True, vmapped=True)


class Wrong(nn.Module):
    """A net with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.layer = nn.Linear(4, 2 if fault == "width" else 3)
        self.norm = nn.BatchNorm1d(3) if fault == "running" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.layer(x))
        if self.fault == "nan":
            return out / 0
        if self.fault == "branch" and out.sum().item() > 1e9:
            return out * 2
        return out


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("width", r"shape \(3, 2\).*need \(3, 3\)"),
        ("nan", "NaN or infinity"),
        ("running", "'norm' keeps running batch statistics.*track_running_stats=False"),
        ("branch", "cannot be vmapped.*tasks_axis: loop"),
    ],
)
def test_the_probe_names_the_fault_and_the_cure(fault: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        model = functional_model(lambda: Wrong(fault), seed=0)
        probe(model, model.initial(0), POINTS, outputs=3, second_order=True, vmapped=True)


def test_a_branch_on_values_is_fine_in_a_loop() -> None:
    model = functional_model(lambda: Wrong("none"), seed=0)
    probe(model, model.initial(0), POINTS, outputs=3, second_order=True, vmapped=True)
    branching = functional_model(lambda: Wrong("branch"), seed=0)
    probe(branching, branching.initial(0), POINTS, outputs=3, second_order=False, vmapped=False)


def test_weights_from_a_file(tmp_path: Path) -> None:
    config = ModelConfig(name="mlp", options={"hidden": [4]})
    values = {name: leaf + 1 for name, leaf in build_model(config, POINTS, 0).initial(0).items()}
    save_file(values, tmp_path / "w.safetensors")
    loaded = config.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    for seed in (0, 1):
        start = build_model(loaded, POINTS, seed).initial(seed)
        assert all(torch.equal(leaf, values[name]) for name, leaf in start.items())
    for wrong, words in (
        ({"tail.weight": torch.ones(1)}, "leaf 'tail.weight' that the model has not"),
        ({"head.bias": torch.ones(9)}, r"head.bias has shape \(9,\), the model's is \(3,\)"),
    ):
        save_file(wrong, tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match=words):
            build_model(loaded, POINTS, 0)
    (tmp_path / "w.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        build_model(loaded, POINTS, 0)


@pytest.mark.parametrize("make", [classification, regression])
def test_weights_choose_examples(make: Any) -> None:
    objective = make()
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 3, generator=draw)
    y = torch.randn(6, 3, generator=draw) if make is regression else torch.tensor([0, 1, 2, 0, 1, 2])
    kept = torch.tensor([1.0, 0, 1, 0, 1, 1])
    chosen = Batch(torch.zeros(4, 1), y[kept > 0])
    weighted = Batch(torch.zeros(6, 1), y, kept)
    assert torch.allclose(objective.loss(outputs, weighted), objective.loss(outputs[kept > 0], chosen))
    for name, value in objective.metrics(outputs, weighted).items():
        assert torch.allclose(value, objective.metrics(outputs[kept > 0], chosen)[name])
    doubled = Batch(torch.zeros(6, 1), y, kept * 2)
    assert torch.allclose(objective.loss(outputs, doubled), objective.loss(outputs, weighted))
