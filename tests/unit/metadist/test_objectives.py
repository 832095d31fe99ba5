"""Shipped objectives against formulas written independently, in numpy; and options that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metadist.config import ObjectiveConfig
from metadist.config.load import load_config
from metadist.errors import ConfigError
from metadist.objectives import build_objective
from metadist.tasks import Batch
from tests.support.quick import IMAGE_RUN, SMALL_RUN, train_quickly

Values = NDArray[np.float64]


def huber(error: Values, delta: float) -> Values:
    """The integral of the slope clip(e, -delta, delta)."""
    near = np.clip(error, -delta, delta)
    return near * error - near**2 / 2


def pinball(error: Values, quantile: float) -> Values:
    return np.maximum(quantile * error, (quantile - 1) * error)


FORMULAS: dict[str, tuple[dict[str, Any], Any]] = {
    "mse": ({}, lambda e: e * e),
    "mae": ({"loss": "mae"}, np.abs),
    "huber": ({"loss": "huber", "delta": 0.7}, lambda e: huber(e, 0.7)),
    "quantile": ({"loss": "quantile", "quantile": 0.9}, lambda e: pinball(e, 0.9)),
}
METRICS = {"mse": lambda e: e * e, "mae": np.abs, "pinball": lambda e: pinball(e, 0.9)}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_losses_follow_their_formulas(name: str, weighted: bool) -> None:
    options, formula = FORMULAS[name]
    draw = np.random.default_rng(0)
    outputs, y = draw.normal(size=(2, 50, 3))
    weight = draw.uniform(size=50) if weighted else np.ones(50)
    measured = {"metrics": ["mae", "mse"]} if name != "quantile" else {"metrics": ["pinball", "mae", "mse"]}
    objective = build_objective(ObjectiveConfig(name="regression", options={**options, **measured}))
    batch = Batch(torch.zeros(50, 1), torch.from_numpy(y), torch.from_numpy(weight) if weighted else None)

    def mean(values: Values) -> float:
        return float((values.mean(1) * weight).sum() / weight.sum())

    assert float(objective.loss(torch.from_numpy(outputs), batch)) == pytest.approx(mean(formula(y - outputs)), 1e-12)
    found = objective.metrics(torch.from_numpy(outputs), batch)
    assert list(found) == measured["metrics"]
    for metric, value in found.items():
        assert float(value) == pytest.approx(mean(METRICS[metric](y - outputs)), 1e-12)


def test_the_constant_with_the_least_quantile_loss_is_the_quantile() -> None:
    objective = build_objective(ObjectiveConfig(name="regression", options={"loss": "quantile", "quantile": 0.8}))
    y = torch.from_numpy(np.random.default_rng(1).normal(size=(999, 1)))
    tried = torch.linspace(-3, 3, 601, dtype=torch.float64)
    losses = torch.stack([objective.loss(value.expand(999, 1), Batch(y, y)) for value in tried])
    assert abs(float(tried[losses.argmin()]) - float(np.quantile(y.numpy(), 0.8))) <= 0.02


def test_label_smoothing() -> None:
    """-sum_c p_c log q_c with p = 1 - e + e / C on the label and e / C elsewhere."""
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(20, 5)), draw.integers(0, 5, 20)
    objective = build_objective(ObjectiveConfig(name="classification", options={"label_smoothing": 0.1}))
    wanted = 0.9 * np.eye(5)[labels] + 0.1 / 5
    expected = -(wanted * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()
    batch = Batch(torch.zeros(20, 1), torch.from_numpy(labels))
    assert float(objective.loss(torch.from_numpy(logits), batch)) == pytest.approx(expected, 1e-12)


@pytest.mark.parametrize(
    ("options", "decides"),
    [
        ({}, "mse"),
        ({"loss": "mae"}, "mae"),
        ({"loss": "huber"}, "mae"),
        ({"loss": "quantile"}, "pinball"),
        ({"loss": "huber", "metrics": ["mse", "mae"]}, "mse"),
    ],
)
def test_the_first_metric_decides(options: dict[str, Any], decides: str) -> None:
    config = load_config(SMALL_RUN, {"objective.options": options})
    assert (config.evaluation.metric, config.evaluation.maximise) == (decides, False)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("regression", {"loss": "rmse"}, "loss: 'rmse' is not known; did you mean 'mse'"),
    ("regression", {"delt": 1}, "delt: there is no such key; did you mean 'delta'"),
    ("regression", {"delta": 2.0}, "read by loss huber, not by mse"),
    ("regression", {"quantile": 0.9}, "read by loss quantile and metric pinball"),
    ("regression", {"loss": "quantile", "quantile": 1.0}, "less than 1"),
    ("regression", {"metrics": ["rmse"]}, "metrics.0"),
    ("regression", {"metrics": ["mse", "mse"]}, "names one twice"),
    ("classification", {"label_smoothing": 1.5}, "less than 1"),
    ("classification", {"loss": "mse"}, "loss: there is no such key"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(SMALL_RUN if name == "regression" else IMAGE_RUN, {"objective.options": options})
    with pytest.raises(ConfigError, match="is not measured by objective regression; use one of mae, loss"):
        load_config(SMALL_RUN, {"objective.options": {"loss": "mae"}, "evaluation.metric": "mse"})


def test_a_run_is_judged_by_its_metric(tmp_path: Path) -> None:
    from metadist.evaluate import Report
    from metadist.evidence.baselines import run_baselines
    from metadist.run_reader import opened

    options = {"loss": "quantile", "quantile": 0.8, "metrics": ["pinball", "mae"]}
    run = train_quickly(SMALL_RUN, {"objective.options": options, "outer.num_steps": 2}, tmp_path / "run")
    assert run.summary["best"]["metric"] == "pinball" and run.summary["query_metrics"]["pinball"] > 0
    from metadist.evaluate import evaluate

    with opened(run) as (parts, group):
        report: Report = evaluate(
            group, run.checkpoint("last").flat, parts.source, parts.config, split="test", step=2, num_tasks=4
        )
    assert set(report.scores.query) == {"loss", "pinball", "mae"}
    assert report.at("pinball") == report.at("loss")
    found = run_baselines(run.run_dir, report, {})["support mean"]
    task = parts.source.fixed("test", 0, 4)
    mean = task.support.y.double().mean(1, keepdim=True).numpy()  # type: ignore[union-attr]
    errors = pinball(task.query.y.double().numpy() - mean, 0.8)  # type: ignore[union-attr]
    assert found["pinball"] == pytest.approx(errors.mean(), 1e-5)
