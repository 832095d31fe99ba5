"""Tasks that are groups of rows, end to end: trained, judged by support size, registered, served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import metadist
from metadist import Run, load_adapter, load_config
from metadist.cli import app
from metadist.errors import ConfigError, DataError, UsageError
from metadist.parts import build_parts
from metadist.registry import build_bundle
from metadist.registry.report import raw_tasks
from metadist.run import evaluate_sizes
from metadist.sources import build_source
from tests.support.quick import NoMirror, happened
from tests.support.tables import SHORT, air_store

AIR: dict[str, Any] = {
    "tasks": {
        "kind": "groups",
        "value": "x",
        "target": "degrees",
        "support": [0, 6],
        "queries": 5,
        "order": {"by": "time", "gap": 2},
    },
    "model": {"name": "mlp", "options": {"hidden": [8], "activation": "tanh"}},
    "objective": {"name": "regression"},
    "algorithm": {"name": "maml", "inner_steps": 2, "inner_lr": 0.01},
    "outer": {"meta_batch_size": 6, "shard_size": 3, "num_steps": 4, "lr": 0.01},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 2, "num_tasks": 12},
    "checkpoint": {"every_steps": 2},
}


@pytest.fixture(scope="module")
def air(tmp_path_factory: pytest.TempPathFactory) -> str:
    return air_store(tmp_path_factory.mktemp("air"))


@pytest.fixture(scope="module")
def run(air: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    heard: list[str] = []
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        observer = metadist.Observer(on_message=heard.append)
        made = metadist.train(
            AIR, set={"tasks.path": air}, run_dir=tmp_path_factory.mktemp("run") / "run", observer=observer
        )
    made.summary["heard"] = heard
    with mock.patch("metadist.run_reader.MlflowMirror", NoMirror):
        yield made


def test_groups_that_are_too_small_are_named_and_never_drawn(run: Run, air: str, tmp_path: Path) -> None:
    (event,) = happened(run.run_dir, "groups_left_out")
    assert (event["split"], event["count"], event["names"]) == ("train", 1, [SHORT])
    assert f"1 groups of split train have too few rows for a task and are not drawn: {SHORT}" in run.summary["heard"]
    with pytest.raises(Exception, match=r"30 support rows \+ a gap of 60 .* need 95"):
        metadist.train(
            AIR, set={"tasks.path": air, "tasks.support": [0, 30], "tasks.order.gap": 60}, run_dir=tmp_path / "run"
        )


def test_sizes_differ_in_training_and_padding_is_zero(run: Run) -> None:
    source = run.parts().source
    support = source.batch("train", 0, 0, 60).support
    assert support is not None and support.weight is not None and isinstance(support.x, torch.Tensor)
    assert support.x.shape == (60, 6, 3) and set(support.weight.sum(1).tolist()) == set(range(7))
    assert not support.x[support.weight == 0].any() and not support.y[support.weight == 0].any()
    assert bool((support.weight[:, :-1] >= support.weight[:, 1:]).all()), "padding comes last"
    fixed = source.fixed("validation", 0, 4).support
    assert fixed is not None and fixed.weight is None and fixed.y.shape == (4, 6, 1)


def test_every_size_is_judged_on_the_same_queries(run: Run) -> None:
    found = []
    for size in (0, 1, 6):
        config = load_config(run.run_dir / "resolved.yaml", {"evaluation.shots": size})
        source = build_source(config, config.tasks.path)
        found.append((source.fixed("test", 0, 8), source.task_set("test", 8)))
    assert len({name for _, name in found}) == 3
    for task, _ in found:
        assert torch.equal(task.query.x, found[-1][0].query.x)  # type: ignore[union-attr, arg-type]
    assert torch.equal(found[1][0].support.x[:, 0], found[2][0].support.x[:, -1])  # type: ignore[union-attr, index]
    empty = found[0][0].support
    assert empty is not None and empty.x.shape == (8, 1, 3)  # type: ignore[union-attr]
    assert empty.weight is not None and not empty.weight.any() and not empty.y.any()


def test_a_line_for_each_size(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    app(["evaluate", str(run.run_dir), "--support", "0,1,6", "--baselines", "--json"], standalone_mode=False)
    got = capsys.readouterr()
    assert got.out, got.err
    printed = json.loads(got.out)["by_support"]
    assert list(printed) == ["0", "1", "6"] and [printed[size]["shots"] for size in printed] == [0, 1, 6]
    first = printed["0"]["by_inner_steps"]
    assert first["0"]["mse"] == first["2"]["mse"], "without a support set the start answers"
    assert "pooled model" in printed["0"]["baselines"] and "ridge regression" not in printed["0"]["baselines"]
    assert "ridge regression" in printed["6"]["baselines"]
    assert len(list(run.run_dir.glob("evaluation/test-*_support_1/report.json"))) == 1
    app(["evaluate", str(run.run_dir), "--support", "0,6"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["0", "support"], ["6", "support"]]
    again = evaluate_sizes(run.run_dir, [6, 0])
    assert [again[6].at("mse")[0], again[0].at("mse")[0]] == [
        printed[size]["by_inner_steps"]["2"]["mse"] for size in ("6", "0")
    ]


def test_a_registered_model_takes_any_number_of_rows(run: Run) -> None:
    adapter = load_adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3).folder)
    assert adapter.self_test() == 0.0
    query = np.ones((2, 3), np.float32)
    nothing = adapter.adapt([], [])
    assert nothing.support_loss == (0.0, 0.0)
    assert np.array_equal(nothing.predict(query), adapter.adapt(np.ones((1, 3)), [9.0], 0).predict(query))
    assert not np.array_equal(nothing.predict(query), adapter.adapt(np.ones((1, 3)), [9.0]).predict(query))
    with pytest.raises(DataError, match="query_x is empty"):
        adapter.adapt([], []).predict(np.zeros((0, 3)))


REFUSED = {
    "kind groups only": {"tasks": {"path": "x", "support": [1, 5]}, "objective.name": "classification"},
    "the first is larger": {"tasks.support": [5, 1]},
    "use one": {"tasks.shapes": [{"shots": 1}]},
    "tasks.order.by: time only": {"tasks.order.by": "random"},
    "is read by source parquet": {
        "tasks": {
            "source": "synthetic",
            "name": "sinusoid",
            "kind": "parameters",
            "transform": [{"name": "standardize"}],
        }
    },
    "equal parts of a support set": {"algorithm.inner_batch_size": 2},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(AIR, {"tasks.path": "nowhere", **REFUSED[words]})
    with pytest.raises(UsageError, match="--support 0,1,5"):
        from metadist.commands.evaluate import sizes_of

        sizes_of("1-5")


MODELS: dict[str, tuple[dict[str, Any], bool]] = {
    "mlp": ({"name": "mlp"}, True),
    "batch norm": ({"factory": "tests.support.models:smooth"}, False),
    "silent": ({"factory": "tests.support.models:fragile", "options": {"limit": 9.0}}, False),
    "declared": ({"factory": "tests.unit.metadist.test_grouped:declared"}, True),
}


def declared(spec: Any) -> torch.nn.Module:
    net = torch.nn.Linear(spec.input_shape[0], spec.outputs)
    net.maskable = True  # type: ignore[assignment]
    return net


@pytest.mark.parametrize("name", MODELS)
def test_only_models_that_say_so_are_padded(name: str, air: str) -> None:
    model, fits = MODELS[name]
    config = load_config({**AIR, "model": model}, {"tasks.path": air})
    spec = build_source(config, air).spec
    if fits:
        assert build_parts(config, spec)[0].maskable
        return
    with pytest.raises(ConfigError, match=r"tasks.support \[0, 6\] pads .*tasks.shapes: \[\{shots: 1\}"):
        build_parts(config, spec)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
@pytest.mark.parametrize("net", ["conv4", "resnet12"])
def test_shipped_nets_say_it_by_their_norm(net: str, norm: str) -> None:
    from metadist.config import ModelConfig
    from metadist.models import build_model
    from metadist.tasks import TaskSpec

    spec = TaskSpec(kind="classes", input_shape=(1, 16, 16), outputs=2, shots=1, queries=1)
    options = {"filters": 2} if net == "conv4" else {"widths": [2, 2, 2, 2]}
    model = build_model(ModelConfig(name=net, options={**options, "norm": norm}), spec, 0)  # type: ignore[arg-type]
    assert model.maskable == (norm != "batch")


def test_nobody_is_sent_padding(run: Run) -> None:
    """A request without support rows has none, as the fixed task has none of any weight."""
    config = load_config(run.run_dir / "resolved.yaml", {"evaluation.shots": 0})
    source = build_source(config, config.tasks.path)
    tasks = list(raw_tasks(source, "test", 3))
    assert [(task.support_x.shape, task.support_y.shape) for task in tasks] == [((0, 3), (0, 1))] * 3
