"""The outer update: the flat view steps as each leaf alone would; schedule, groups, clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metadist.config import OuterConfig, OuterGroup, ScheduleConfig
from metadist.errors import ConfigError
from metadist.outer import OPTIMIZERS, Outer, schedule_factor
from metadist.parameters import Layout

LAYOUT = Layout(("model.body.weight", "model.body.bias", "model.head.weight", "inner.rate"), ((7, 5), (7,), (3, 7), ()))
RNG = np.random.default_rng(0)
START = RNG.normal(size=LAYOUT.size).astype(np.float32)
SLOPES = RNG.normal(size=(6, LAYOUT.size)).astype(np.float32)


def leaves_of(flat: np.ndarray[Any, Any]) -> list[torch.Tensor]:
    ends = np.cumsum(LAYOUT.sizes)
    pieces = zip(LAYOUT.shapes, LAYOUT.sizes, ends, strict=True)
    return [torch.from_numpy(flat[end - size : end].copy()).reshape(shape) for shape, size, end in pieces]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {}),
        ("adam", {"weight_decay": 0.01, "betas": [0.8, 0.99]}),
        ("adam", {"amsgrad": True}),
        ("adamw", {"weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_the_flat_view_steps_as_each_leaf_would(name: str, options: dict[str, Any]) -> None:
    outer = Outer(OuterConfig(optimizer=name, lr=0.05, options=options), LAYOUT, START)  # type: ignore[arg-type]
    leaves = leaves_of(START)
    make: Any = OPTIMIZERS[name]
    single = make(leaves, lr=0.05, foreach=False, fused=False, **options)
    for slope in SLOPES:
        outer.step(slope)
        for leaf, piece in zip(leaves, leaves_of(slope), strict=True):
            leaf.grad = piece
        single.step()
    expected = torch.cat([leaf.reshape(-1) for leaf in leaves]).numpy()
    assert outer.params.tobytes() == expected.tobytes()


def test_groups_have_their_own_rates() -> None:
    groups = (OuterGroup(match=("inner.*",), lr=0.5), OuterGroup(match=("model.body.bias",), lr=0.25))
    outer = Outer(OuterConfig(optimizer="sgd", lr=0.125, groups=groups), LAYOUT, START)
    outer.step(SLOPES[0])
    rates = [0.125] * 35 + [0.25] * 7 + [0.125] * 21 + [0.5]
    assert np.array_equal(outer.params, START - np.array(rates, np.float32) * SLOPES[0])
    assert outer.lr == 0.125


def test_groups_and_options_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"matches no leaf; the leaves are model\.body\.weight"):
        Outer(OuterConfig(groups=(OuterGroup(match=("nothing",), lr=1),)), LAYOUT, START)
    with pytest.raises(ConfigError, match=r"outer\.options"):
        Outer(OuterConfig(options={"nonsense": 1}), LAYOUT, START)
    with pytest.raises(ConfigError, match=r"outer\.options"):
        Outer(OuterConfig(options={"betas": [2.0, 0.9]}), LAYOUT, START)


def test_clipping_keeps_the_direction_and_tells_the_norm_before() -> None:
    outer = Outer(OuterConfig(optimizer="sgd", lr=1.0, clip_norm=0.5), LAYOUT, START)
    norm = outer.step(SLOPES[0])
    assert norm == pytest.approx(np.linalg.norm(SLOPES[0]), rel=1e-6)
    moved = START - outer.params
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-5)
    assert np.allclose(moved / np.linalg.norm(moved), SLOPES[0] / norm, atol=1e-5)
    small = SLOPES[0] / np.float32(100)
    untouched = Outer(OuterConfig(optimizer="sgd", lr=1.0, clip_norm=0.5), LAYOUT, START)
    untouched.step(small)
    assert np.array_equal(untouched.params, START - small)


def test_a_step_does_not_write_into_what_it_was_given() -> None:
    start, slope = START.copy(), SLOPES[0].copy()
    slope.flags.writeable = False
    outer = Outer(OuterConfig(clip_norm=0.1), LAYOUT, start)
    before = outer.params
    outer.step(slope)
    assert np.array_equal(start, START) and np.array_equal(before, START)
    assert outer.flat.data_ptr() % 64 == 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"name": "cosine"}, [1, 0.853553, 0.5, 0.146447, 0]),
        ({"name": "cosine", "final": 0.5}, [1, 0.926777, 0.75, 0.573223, 0.5]),
        ({"name": "linear", "final": 0.2}, [1, 0.8, 0.6, 0.4, 0.2]),
        ({"name": "step", "every_steps": 4, "factor": 0.1}, [1, 1, 0.1, 0.1, 0.01]),
        ({"warmup_steps": 4}, [0.25, 0.75, 1, 1, 1]),
        ({"name": "linear", "warmup_steps": 4}, [0.25, 0.75, 1, 0.5, 0]),
    ],
)
def test_schedules(schedule: dict[str, Any], expected: list[float]) -> None:
    found = [schedule_factor(ScheduleConfig(**schedule), step, 8) for step in (0, 2, 4, 6, 8)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_optimizer_follows_the_schedule_in_every_group() -> None:
    config = OuterConfig(
        optimizer="sgd",
        lr=1.0,
        num_steps=4,
        schedule=ScheduleConfig(name="linear"),
        groups=(OuterGroup(match=("inner.*",), lr=2.0),),
    )
    outer = Outer(config, LAYOUT, np.zeros(LAYOUT.size, np.float32))
    rates = []
    for _ in range(4):
        rates.append(tuple(group["lr"] for group in outer.optimizer.param_groups))
        outer.step(SLOPES[0])
    assert rates == [(1.0, 2.0), (0.75, 1.5), (0.5, 1.0), (0.25, 0.5)]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_loading_goes_on_with_the_same_bits(optimizer: str) -> None:
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    schedule = ScheduleConfig(name="cosine", warmup_steps=2)
    config = OuterConfig(optimizer=optimizer, options=options, num_steps=6, schedule=schedule)  # type: ignore[arg-type]
    whole, first, second = (Outer(config, LAYOUT, START) for _ in range(3))
    for slope in SLOPES:
        whole.step(slope)
    for slope in SLOPES[:3]:
        first.step(slope)
    second.load(first.params, first.tensors(), 3)
    assert second.lr == first.lr
    for slope in SLOPES[3:]:
        second.step(slope)
    assert second.params.tobytes() == whole.params.tobytes()
