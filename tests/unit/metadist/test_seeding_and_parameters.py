"""Generators named by words, and trees of parameters against their flat vector."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from metadist import leaves, params_sha256, seeding
from metadist.config import ModelConfig
from metadist.models import build_model
from metadist.parameters import (
    Layout,
    MetaParams,
    flatten,
    layout_of,
    matching,
    named_leaves,
    sha256,
    tree_digest,
    unflatten,
)
from metadist.tasks import TaskSpec

TREE = MetaParams({"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}, {"rate": torch.tensor(0.5)})
SPEC = TaskSpec(kind="classes", input_shape=(4,), outputs=3, shots=1, queries=1)


def test_names_of_generators_do_not_collide() -> None:
    words = [(0,), ("0",), (0, "train"), ("0\x1ftrain",), (0, "train", 1), (0, "train", "1"), ("str:0",), (0, 0), (00,)]
    assert len({seeding.key(*word) for word in words}) == len(words) - 1  # 0 and 00 are one number
    assert all(0 <= seeding.torch_seed(*word) < 2**63 for word in words)


def test_streams_are_the_same_everywhere() -> None:
    """Fixed values: the tasks of every run ever made hang on them."""
    assert seeding.key(0, "train", 3, 1) == 283925241617717785857594557712435921494
    assert float(seeding.generator(0, "train", 3, 1).random()) == 0.7273959534358334


def test_neighbouring_streams_are_independent() -> None:
    draws = np.array([seeding.generator(0, "train", step).random(50) for step in range(200)])
    assert abs(draws.mean() - 0.5) < 0.02
    assert np.abs(np.corrcoef(draws)[np.triu_indices(200, 1)]).mean() < 0.15


def test_nothing_global_is_drawn_or_changed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    model = build_model(ModelConfig(name="mlp"), SPEC, 3)
    first = model.initial(3)
    torch.manual_seed(2)
    again = model.initial(3)
    torch.random.set_rng_state(before[0])
    model.initial(3)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(model.initial(4)["head.weight"], first["head.weight"])


def test_flat_and_tree_are_one() -> None:
    flat, layout = flatten(TREE), layout_of(TREE)
    assert layout == Layout(("model.b.weight", "model.a", "inner.rate"), ((2, 3), (2,), ()))
    assert layout.sizes == (6, 2, 1) and layout.size == 9
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 1, 1, 0.5]
    back = unflatten(flat, layout)
    assert list(named_leaves(back)) == list(layout.names)
    assert all(torch.equal(a, b) for a, b in zip(leaves(back), leaves(TREE), strict=True))
    leaves(back)[0].zero_()
    assert flat[1] == 1, "a tree must not share memory with the vector"
    with pytest.raises(ValueError, match="does not fit"):
        unflatten(flat[1:], layout)


def test_params_sha256_is_of_little_endian_float32() -> None:
    flat = flatten(TREE)
    assert params_sha256(TREE) == sha256(flat) == hashlib.sha256(flat.astype("<f4").tobytes()).hexdigest()
    assert sha256(flat.astype(">f4").astype(np.float32)) == sha256(flat)
    assert sha256(np.repeat(flat, 2)[::2]) == sha256(flat)


def test_digests_see_names_shapes_types_and_bytes() -> None:
    trees = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0, 0, 1])},
        {},
    ]
    assert len({tree_digest(tree) for tree in trees}) == len(trees)
    assert layout_of(TREE).digest != Layout(layout_of(TREE).names, ((3, 2), (2,), ())).digest


def test_matching_keeps_the_order_of_the_names() -> None:
    names = ["body.0.weight", "head.weight", "head.bias"]
    assert matching(["head.*", "body.*"], names) == tuple(names)
    assert matching([], names) == ()
