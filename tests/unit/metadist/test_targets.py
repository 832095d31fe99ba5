"""Transformed targets: trained in units of their own, answered and measured in those of the column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from metadist import Run, load_config, params_sha256
from metadist.adapter import Adapter
from metadist.answers.tables import answer_groups
from metadist.config.transforms import Transform
from metadist.errors import ConfigError, DataError
from metadist.evidence.baselines import run_baselines
from metadist.registry import build_bundle
from metadist.registry.report import raw_tasks
from metadist.run import evaluate_run
from metadist.sources import build_source, fitted_digest
from metadist.transforms import fit_chain
from metadist.transforms.targets import Targets
from tasks_store import Column, write_store
from tests.support.quick import NoMirror, timeless, train_quickly

RECIPE: dict[str, Any] = {
    "tasks": {"kind": "groups", "value": "x", "target": "y", "support": [0, 6], "queries": 5},
    "model": {"name": "mlp", "options": {"hidden": [8], "activation": "tanh"}},
    "objective": {"name": "regression", "options": {"metrics": ["mae", "mse"]}},
    "algorithm": {"name": "maml", "inner_steps": 2, "inner_lr": 0.05},
    "outer": {"meta_batch_size": 6, "shard_size": 3, "num_steps": 4, "lr": 0.01},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 2, "num_tasks": 4},
    "checkpoint": {"every_steps": 4},
}
TASKS = 4
SCALE, LOG = {"name": "standardize"}, {"name": "log1p"}


class Trained(NamedTuple):
    """A run, and what it is registered as."""

    run: Run
    adapter: Adapter


def store_of(place: Path, unit: float) -> str:
    """Nine groups of twenty rows; amounts of some hundreds with a long tail, counted in ``unit``s."""
    draw, rows = np.random.default_rng(0), []
    for number in range(9):
        slope = draw.normal(size=3)
        for _ in range(20):
            x = draw.normal(size=3).astype(np.float32)
            amount = np.float32(unit) * np.float32(300 * np.exp(x @ slope / 3))
            split = ("train", "validation", "test")[number % 3]
            rows.append({"group": f"g{number}", "split": split, "x": x, "y": amount})
    columns = [Column(name="x", dtype="float32", shape=(3,)), Column(name="y", dtype="float32")]
    write_store(rows, place, name="amounts", kind="groups", columns=columns)
    return str(place)


def trained(folder: Path, unit: float, *transforms: dict[str, Any]) -> Trained:
    settings = {"tasks.path": store_of(folder / "store", unit), "tasks.target_transform": list(transforms)}
    run = train_quickly(RECIPE, settings, folder / "run")
    return Trained(run, Adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=TASKS)))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("one"), 1.0, SCALE)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("logs"), 1.0, LOG, SCALE)


def test_the_unit_of_a_target_changes_no_bit_of_the_training(one: Trained, tmp_path: Path) -> None:
    """Four times the target: the same parameters, four times the answers and the error, 16 times the squared one."""
    other = trained(tmp_path, 4.0, SCALE)
    assert params_sha256(one.run.params) == params_sha256(other.run.params)
    for plain, larger in zip(timeless(one.run.run_dir), timeless(other.run.run_dir), strict=True):
        for metric, factor in (("train/query_mae", 4), ("train/query_mse", 16), ("train/query_loss", 1)):
            assert plain.get(metric, 0.0) * factor == larger.get(metric, 0.0), metric
    assert "train/query_mae" in timeless(one.run.run_dir)[0]
    x, y = np.ones((2, 3), np.float32), np.float32([200, 300])
    answers = [found.adapter.adapt(x, y * unit).predict(-x) for found, unit in ((one, 1), (other, 4))]
    assert np.array_equal(answers[0] * 4, answers[1])
    assert fitted_digest(source_of(one)) != fitted_digest(source_of(other)) != ""


def source_of(found: Trained) -> Any:
    return build_source(found.run.config, found.run.config.tasks.path)


@pytest.mark.parametrize("name", ["one", "logs"])
def test_what_is_reported_is_the_error_of_what_is_answered(name: str, request: pytest.FixtureRequest) -> None:
    """In the units of the column, by hand, for the model, the report that travels with it and the baselines."""
    found: Trained = request.getfixturevalue(name)
    errors: dict[str, list[float]] = {"ours": [], "support mean": []}
    source = source_of(found)
    for task in raw_tasks(source, "test", TASKS):
        answers = found.adapter.adapt(task.support_x, task.support_y).predict(task.query_x)
        assert answers.shape == (5,)
        errors["ours"].append(float(np.abs(answers - task.query_y[:, 0]).mean(dtype=np.float64)))
        level = task.support_y.mean() if name == "one" else np.expm1(np.log1p(task.support_y).mean())
        errors["support mean"].append(float(np.abs(level - task.query_y).mean()))
    with mock.patch("metadist.run_reader.MlflowMirror", NoMirror):
        report = evaluate_run(found.run.run_dir)
    for reported in (report.at("mae")[0], found.adapter.bundle.report["by_inner_steps"]["2"]["mae"]):
        assert reported == pytest.approx(np.mean(errors["ours"]), rel=1e-4)
    baseline = run_baselines(found.run.run_dir, report, {})["support mean"]
    assert baseline["mae"] == pytest.approx(np.mean(errors["support mean"]), rel=1e-4)
    assert 10 < baseline["mae"] < 1000, "amounts are some hundreds"
    assert found.adapter.self_test() == 0.0


def test_many_groups_are_answered_in_the_same_units(logs: Trained, tmp_path: Path) -> None:
    tasks = list(raw_tasks(source_of(logs), "test", 3))
    for half in ("support", "query"):
        rows = [
            {"who": str(place), "x": x.tolist(), "y": float(y[0])}
            for place, task in enumerate(tasks)
            for x, y in zip(getattr(task, f"{half}_x"), getattr(task, f"{half}_y"), strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{half}.parquet")
    paths = (tmp_path / name for name in ("support.parquet", "query.parquet", "out.parquet"))
    answer_groups(logs.adapter, *paths, group="who", label="y")
    alone = [logs.adapter.adapt(task.support_x, task.support_y).predict(task.query_x) for task in tasks]
    predicted = pq.read_table(tmp_path / "out.parquet")["predicted"].to_numpy()
    assert np.allclose(predicted, np.concatenate(alone), rtol=1e-4) and predicted.min() > -1


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_there_and_back(shape: tuple[int, ...]) -> None:
    """Each number of a target by itself, from the training rows alone; padding stays zero."""
    rows = np.random.default_rng(0).gamma(2.0, 100.0, (50, *shape)).astype(np.float32)
    chain = fit_chain((Transform(**LOG), Transform(**SCALE)), lambda: rows)
    targets = Targets.of(chain, shape)
    flat = rows.reshape(5, 10, -1)
    scaled = targets.scaled(flat)
    assert np.allclose(scaled.mean((0, 1)), 0, atol=1e-4) and np.allclose(scaled.std((0, 1)), 1, atol=1e-3)
    assert np.allclose(targets.undone(torch.from_numpy(scaled)).numpy(), flat, rtol=1e-4)
    assert np.allclose(targets.values(scaled.reshape(50, -1)), rows, rtol=1e-4)
    with pytest.raises(DataError, match="log1p needs values above -1; the smallest of these is -5"):
        targets.scaled(np.where(flat == flat.max(), np.float32(-5), flat))


def test_padding_stays_zero_and_a_loss_is_of_the_transformed_targets(one: Trained) -> None:
    source = source_of(one)
    support = source.batch("train", 0, 0, 8).support
    assert not support.y[support.weight == 0].any() and support.y[support.weight > 0].all()
    assert support.y.abs().max() < 10 < one.run.config.tasks.queries * 100
    assert 0.1 < one.run.metrics()[0]["train/query_loss"] < 10


REFUSED = {
    "one_hot cannot be undone; use standardize or log1p": {"tasks.target_transform": [{"name": "one_hot"}]},
    "target_transform is read by tasks.kind groups only": {
        "tasks": {"path": "x", "target_transform": [SCALE]},
        "objective": {"name": "classification"},
    },
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(RECIPE, {"tasks.path": "nowhere", **REFUSED[words]})
