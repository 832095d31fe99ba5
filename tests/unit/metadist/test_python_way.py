"""Python is an equal way in: rows, a run, its tasks and gradients, a predictor, in lines as they are promised."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import metadist
from metadist.errors import ConfigError
from metadist.evaluate import Report
from metadist.registry import build_bundle
from tests.support.quick import NoMirror, train_quickly

RECIPE = {
    "tasks": {"ways": 3, "shots": 1, "queries": 4},
    "model": {"name": "mlp", "options": {"hidden": [8]}},
    "objective": {"name": "classification"},
    "algorithm": {"name": "maml", "inner_steps": 1, "inner_lr": 0.5},
    "outer": {"meta_batch_size": 4, "shard_size": 2, "num_steps": 4},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 2, "num_tasks": 4},
}


def test_from_rows_to_a_predictor(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [
        {"group": f"class {number:02d}", "split": split, "x": (number + draw.normal(size=3)).astype(np.float32)}
        for number, split in enumerate(["train"] * 6 + ["validation"] * 3 + ["test"] * 3)
        for _ in range(8)
    ]
    store = tmp_path / "store"
    metadist.write_store(rows, store)

    heard, reports = list[int](), list[Report]()
    observer = metadist.Observer(on_step=lambda step, metrics: heard.append(step), on_evaluate=reports.append)
    trained = train_quickly(RECIPE, {"tasks.path": str(store)}, tmp_path / "run", observer=observer)
    assert heard == [1, 2, 3, 4] and [report.step for report in reports] == [2, 4]

    run = metadist.load_run(tmp_path / "run")
    assert metadist.params_sha256(run.params) == trained.summary["params_sha256"]
    assert len([row for row in run.metrics() if "train/query_loss" in row]) == 4
    with mock.patch("metadist.run_reader.MlflowMirror", NoMirror):
        assert run.evaluate(num_tasks=4).split == "test"
        with pytest.raises(ConfigError, match=r"weight \(3, 8\), there \(2, 8\).*judge it on the tasks.ways"):
            run.evaluate(num_tasks=4, set={"tasks.ways": 2})

    tasks = metadist.open_tasks(str(store), split="train", ways=3, shots=1, queries=4)
    same = metadist.open_tasks(run.config)
    direction, metrics = metadist.meta_gradient(run.algorithm, run.params, tasks.batch(5, 4))
    expected, _ = metadist.meta_gradient(run.algorithm, run.params, same.batch(5, 4))
    assert metrics["query_loss"] > 0
    pairs = zip(metadist.leaves(direction), metadist.leaves(expected), strict=True)
    assert all(torch.equal(one, other) and bool(one.abs().max() > 0) for one, other in pairs)

    model = metadist.load_adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=4).folder)
    support, labels = np.stack([rows[8 * number]["x"] for number in (9, 10, 11)]), ["heron", "plover", "wren"]
    chances = model.fit(support, labels).predict_proba(support)
    assert chances.shape == (3, 3) and np.allclose(chances.sum(-1), 1) and model.classes_.tolist() == labels
    assert (model.predict(support) == np.array(labels)[chances.argmax(-1)]).all()
    assert (model.adapt(support, labels).predict_proba(support) == chances).all()
