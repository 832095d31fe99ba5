"""Frozen leaves keep their bits. Law 14, labels: nothing but the support set tells a class, nor do other queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import metadist
from metadist.parameters import tree_digest
from metadist.worker import assemble, factory_of
from tests.support.cases import CASES, PROBLEMS, Case, build, label
from tests.support.draws import context, draw_params, draw_tasks, one
from tests.support.quick import IMAGE_RUN, SMALL_RUN, train_quickly

PARTLY = {"model": {"factory": "tests.support.models:partly_frozen", "freeze": ["encoder.*"]}}


@pytest.mark.parametrize("backend_settings", [{}, {"algorithm.name": "reptile"}], ids=["maml", "reptile"])
def test_frozen_leaves_keep_their_bits(backend_settings: dict[str, Any], tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, {**PARTLY, **backend_settings}, tmp_path / "run")
    before = assemble(run.config, run.parts().source).model
    assert tree_digest(load_file(run.run_dir / "frozen.safetensors")) == tree_digest(before.frozen)
    assert torch.equal(before.frozen["mark"], torch.linspace(0.5, 1.5, 6))
    assert torch.equal(before.frozen["scale"], torch.linspace(1.0, 2.0, 6))
    saved = load_file(run.run_dir / "checkpoints" / "000010" / "params.safetensors")
    assert set(saved) == {f"model.{name}.{kind}" for name in ("middle", "head") for kind in ("weight", "bias")}
    start = before.initial(run.config.seed)
    assert all(not torch.equal(saved[f"model.{name}"], leaf) for name, leaf in start.items())


def test_a_frozen_file_that_was_changed_is_refused_by_the_worker(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config = metadist.load_config(SMALL_RUN, PARTLY)
    parts = assemble(config, metadist.open_tasks(config).source)
    factory = factory_of(parts, None, "cpu", tmp_path)
    file = tmp_path / "frozen.safetensors"
    save_file({**load_file(file), "mark": torch.ones(6)}, file)
    with pytest.raises(metadist.MetadistError, match="digest"):
        factory()


def test_a_pattern_that_freezes_nothing_or_all_is_refused() -> None:
    for patterns, message in ((["nothing.*"], "matches no leaf"), (["*"], "nothing to learn")):
        config = metadist.load_config(SMALL_RUN, {"model.freeze": patterns})
        with pytest.raises(metadist.MetadistError, match=message):
            assemble(config, metadist.open_tasks(config).source)


NETS = [problem for problem in PROBLEMS if problem.name in ("conv4-stride", "conv4-pool", "norm-tanh")]


@pytest.mark.parametrize(
    ("case", "problem"), [(case, net) for case in CASES for net in NETS if case.fits(net)], ids=label
)
def test_only_transductive_predictions_depend_on_the_other_queries(case: Case, problem: Any) -> None:
    for mode, alike in (("inductive", True), ("transductive", False)):
        built = build(case, problem, mode)
        params, task = draw_params(built), one(draw_tasks(problem, 1), 0)
        assert task.support is not None and task.query is not None and isinstance(task.query.x, Tensor)
        adapted = built.algorithm.adapt(params, task.support, context(), num_steps=case.steps)
        assert bool(adapted.statistics) == alike
        together = built.algorithm.predict(adapted, task.query.x)
        others = task.query.x.clone()
        others[1:] = others[1:] * 3 + 1
        first = built.algorithm.predict(adapted, others)[0]
        assert torch.allclose(together[0], first, rtol=1e-12, atol=1e-12) == alike
        if alike:
            alone = torch.cat([built.algorithm.predict(adapted, x[None]) for x in task.query.x])
            assert torch.allclose(together, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["inductive", "transductive"])
def test_without_inner_steps_a_trained_model_scores_chance(mode: str, omniglot: str, tmp_path: Path) -> None:
    settings = {
        "outer.num_steps": 15,
        "tasks.shots": 5,
        "algorithm.normalisation": mode,
        "algorithm.inner_lr": 2.0,
        "model.options": {"filters": 8, "zero_head": True},
    }
    run = train_quickly(IMAGE_RUN, settings, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metadist.run_reader._tell", lambda *arguments: None)
        report = run.evaluate(num_tasks=150, split="test")
    before, half = report.at("accuracy", 0)
    after, spread = report.at("accuracy")
    assert abs(before - 0.2) < 3 * half, "a label is known before the support set was seen"
    assert after - 0.2 > 3 * spread, "nothing was learned, so chance means nothing"
    assert "one_query_at_a_time" in report.to_json()


def test_labels_are_drawn_apart_from_classes(omniglot: str) -> None:
    """Over many episodes, a class meets each label about as often as any other."""
    config = metadist.load_config(IMAGE_RUN, {"tasks.ways": 5})
    tasks = metadist.open_tasks(config, split="train")
    batch = tasks.batch(0, 400)
    assert batch.support is not None and isinstance(batch.support.x, Tensor)
    ink = batch.support.x.mean((2, 3, 4)).numpy()  # (T, ways): classes differ in how much ink they have
    ranks = ink.argsort(1).argsort(1)
    labels = batch.support.y.numpy()
    table = np.array([[np.mean(labels[ranks == rank] == value) for value in range(5)] for rank in range(5)])
    assert np.abs(table - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 400)
