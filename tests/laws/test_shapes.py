"""Law 7, means: tasks of unequal ways and shots in one step. Each counts once, and none is padded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metadist
from metadist.errors import ConfigError
from metadist.parameters import MetaParams, flatten, unflatten
from metadist.shard import batched, context_of
from metadist.stores import locate
from metadist.tasks import plan_training
from metadist.worker import assemble_at, factory_of
from tasks_store import TaskStoreError
from tests.support.quick import IMAGE_RUN, SMALL_RUN, train_quickly

SHAPES = [{"ways": 3, "shots": 2}, {"queries": 2}, {"ways": 7}]  # beside ways 5, shots 1, queries 1
ALGORITHMS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml", "inner_steps": 2, "inner_lr": 0.3},
    "reptile": {"name": "reptile", "inner_steps": 2, "inner_lr": 0.3},
    "imaml": {"name": "imaml", "inner_steps": 3, "inner_lr": 0.1},
    "protonet": {"name": "protonet"},
    "protomaml": {"name": "protomaml", "inner_lr": 0.05},
    "r2d2": {"name": "r2d2"},
}


def narrow(tree: dict[str, torch.Tensor], ways: int) -> dict[str, torch.Tensor]:
    """The leaves of a net that has ``ways`` outputs only."""
    return {name: leaf[:ways] if name.startswith("head.") else leaf for name, leaf in tree.items()}


def wide(tree: dict[str, torch.Tensor], ways: int) -> dict[str, torch.Tensor]:
    """A direction of such a net for the wide one: what it does not have does not move."""
    return {
        name: torch.cat([leaf, leaf.new_zeros(ways - len(leaf), *leaf.shape[1:])]) if name.startswith("head.") else leaf
        for name, leaf in tree.items()
    }


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_is_the_mean_over_tasks_each_solved_at_its_own_shape(name: str, tmp_path: Path, omniglot: str) -> None:
    """Against nets that were built for a shape alone, with the leaves that they share."""
    settings = {"algorithm": ALGORITHMS[name], "tasks.rotations": True}
    mixed = metadist.load_config(IMAGE_RUN, {**settings, "tasks.shapes": SHAPES})
    location = locate(mixed, lambda message: None)
    parts = assemble_at(mixed, location)
    flat = flatten(parts.algorithm.init(0)) + np.float32(0.01)  # heads that begin at zero would hide their widths
    work, step = factory_of(parts, location, "cpu", tmp_path)(), 3
    plan = plan_training(mixed, step)
    assert [shard.shape for shard in plan] == [0, 1, 2]
    answers = [work(0, flat, shard) for shard in plan]
    found = sum(answer.vector.astype(np.float64) for answer in answers) / sum(answer.count for answer in answers)

    meta = unflatten(flat, parts.layout)
    expected = np.zeros(len(flat))
    for shard, shape in zip(plan, SHAPES, strict=True):
        alone = metadist.load_config(IMAGE_RUN, {**settings, **{f"tasks.{key}": size for key, size in shape.items()}})
        own = assemble_at(alone, location)
        tasks = own.source.batch("train", step, shard.start, shard.stop)
        assert tasks.support is not None and tasks.query is not None
        ways, shots = shape.get("ways", 5), shape.get("shots", 1)
        assert tasks.support.y.shape == (2, ways * shots) and int(tasks.query.y.max()) == ways - 1
        context = context_of(alone, "train", step, shard.start, shard.stop)
        direction, _ = batched(own.algorithm.meta_gradient)(
            MetaParams(narrow(meta.model, ways), meta.inner), tasks, context
        )
        for task in range(2):
            model = wide({name: leaf[task] for name, leaf in direction.model.items()}, 7)
            inner = {name: leaf[task] for name, leaf in direction.inner.items()}
            expected += flatten(MetaParams(model, inner)).astype(np.float64) / 6
    assert np.linalg.norm(expected) > 1e-3
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_shapes_of_regression_tasks(tmp_path: Path) -> None:
    """Trained, judged at the section's own sizes, and gone on with: a run like any other."""
    shapes = {"tasks.shapes": [{"shots": 2}, {"shots": 9, "queries": 3}, {}]}
    whole = train_quickly(SMALL_RUN, shapes, tmp_path / "whole")
    half = train_quickly(SMALL_RUN, {**shapes, "outer.num_steps": 5}, tmp_path / "run")
    resumed = train_quickly(SMALL_RUN, shapes, half.run_dir, resume=True)
    assert resumed.summary["params_sha256"] == whole.summary["params_sha256"]
    plain = train_quickly(SMALL_RUN, {}, tmp_path / "plain")
    assert plain.summary["params_sha256"] != whole.summary["params_sha256"]
    assert plain.evaluate(num_tasks=4).task_set == whole.evaluate(num_tasks=4).task_set


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no equal blocks": ({"outer.meta_batch_size": 8}, "meta_batch_size 8 is not a multiple of the 3 tasks.shapes"),
    "no equal shards": (
        {"outer.shard_size": 3},
        r"meta_batch_size 6 \(2 tasks of each of 3 shapes\) is not a multiple of .*shard_size 3; .* fits: 1, 2",
    ),
    "ways of a regression": ({"tasks.shapes": [{"ways": 3}]}, "tasks.shapes names ways, which .* do not read"),
    "no such key": ({"tasks.shapes": [{"shot": 3}]}, "shot"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    overrides, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        metadist.load_config(SMALL_RUN, {"tasks.shapes": [{}, {"shots": 2}, {"shots": 3}], **overrides})


def test_the_tasks_of_several_shapes_are_no_one_batch() -> None:
    shapes = {"tasks.shapes": [{"shots": 2}, {"shots": 3}, {}]}
    tasks = metadist.open_tasks(metadist.load_config(SMALL_RUN, shapes))
    with pytest.raises(ValueError, match="several shapes"):
        tasks.batch(0, 4)


def test_too_few_classes_for_a_shape_are_told_before_the_first_step(tmp_path: Path, omniglot: str) -> None:
    shapes = {"tasks.shapes": [{}, {}, {"ways": 4000}]}
    with pytest.raises(TaskStoreError, match="4000"):
        train_quickly(IMAGE_RUN, shapes, tmp_path / "run")
