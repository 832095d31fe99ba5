"""Means with intervals, diverged tasks, which report is better; and the warnings an experienced eye would give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metadist import load_config
from metadist.diagnostics import warnings_of
from metadist.evaluate import Report, better, diverged, mean_ci95, save_report
from metadist.shard import TaskScores
from tests.support.quick import IMAGE_RUN, SMALL_RUN

N, K = 400, 2


def report_of(
    accuracy: tuple[float, ...] | None, loss: tuple[float, ...], support: tuple[float, ...], *, spread: float = 0.0
) -> Report:
    """A report with these means after 0, 1, ... inner steps."""
    wobble = np.where(np.arange(N) % 2, 1.0, -1.0)[:, None] * spread

    def table(values: tuple[float, ...]) -> Any:
        return (np.tile(np.array(values), (N, 1)) + wobble).astype(np.float32)

    query = {"loss": table(loss), ("mse" if accuracy is None else "accuracy"): table(accuracy or loss)}
    alone = {name: values[:, -1] for name, values in query.items()}
    facts = {"shots": 1, "queries": 1, "normalisation": "inductive"}
    return Report(
        step=7, split="validation", task_set="x", facts=facts, scores=TaskScores(query, table(support), alone)
    )


def test_mean_and_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 1000)
    mean, half = mean_ci95(values)
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(1000), rel=1e-6)
    assert mean_ci95(np.array([5.0])) == (5.0, 0.0)


def test_the_interval_covers_the_truth_about_19_times_in_20() -> None:
    draws = np.random.default_rng(1).normal(0.0, 1.0, (2000, 100))
    hits = [abs(mean) <= half for mean, half in map(mean_ci95, draws)]
    assert 0.93 < np.mean(hits) < 0.965


def test_a_task_that_is_not_finite_is_never_averaged_away() -> None:
    mean, half = mean_ci95(np.array([1.0, np.nan, 2.0]))
    assert np.isnan(mean) and np.isnan(half)
    assert np.isinf(mean_ci95(np.array([1.0, np.inf]))[0])
    large = np.full(10, 3e38, np.float32)
    assert mean_ci95(large)[0] == pytest.approx(3e38, rel=1e-6)


def test_diverged_tasks() -> None:
    loss = np.array(
        [[1.0, 0.5], [1.0, 9.9], [1.0, 10.1], [20.0, 150.0], [20.0, 201.0], [0.01, 5.0], [1.0, np.nan], [1.0, np.inf]],
        np.float32,
    )
    assert diverged(loss).tolist() == [False, False, True, False, True, False, True, True]


def test_better() -> None:
    assert better(0.6, 0.5, maximise=True) and not better(0.5, 0.5, maximise=True)
    assert better(0.5, 0.6, maximise=False) and not better(0.5, 0.5, maximise=False)
    assert not better(float("nan"), 0.5, maximise=False) and not better(float("nan"), 0.5, maximise=True)


def test_a_report_is_written_with_every_task(tmp_path: Path) -> None:
    report = report_of((0.2, 0.5, 0.75), (1.6, 1.0, 0.5), (1.6, 0.5, 0.1), spread=0.125)
    written = json.loads(save_report(report, tmp_path / "folder").read_text())
    assert written["num_tasks"] == N and written["checkpoint"] == 7 and written["diverged_tasks"] == 0
    last = written["by_inner_steps"]["2"]
    assert last["accuracy"] == pytest.approx(0.75)
    assert last["ci95"] == pytest.approx(1.96 * 0.125 / np.sqrt(N), rel=1e-2)
    assert set(written["by_inner_steps"]) == {"0", "1", "2"}
    with np.load(tmp_path / "folder" / "tasks.npz") as tasks:
        assert tasks["query/accuracy"].shape == (N, K + 1)
    metrics = report.metrics("validation")
    assert metrics["validation/accuracy_steps_1"] == pytest.approx(0.5)
    assert metrics["validation/support_loss_after"] == pytest.approx(0.1)


def test_figures_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    report = report_of(None, (1.0, 1.0, float("nan")), (1.0, 1.0, 1.0))
    written = json.loads(save_report(report, tmp_path).read_text(), parse_constant=pytest.fail)
    assert written["by_inner_steps"]["2"]["mse"] is None
    assert written["diverged_tasks"] == N


CLASSES = load_config(IMAGE_RUN, {"evaluation.inner_steps": K})
VALUES = load_config(SMALL_RUN, {"evaluation.inner_steps": K})


@pytest.mark.parametrize(
    ("report", "config", "words"),
    [
        (report_of((0.2, 0.5, 0.8), (1.6, 1, 0.5), (1.6, 0.5, 0.1)), CLASSES, []),
        (report_of(None, (3.0, 2.0, 1.0), (3.0, 1.0, 0.5)), VALUES, []),
        (report_of((0.4, 0.6, 0.8), (1.6, 1, 0.5), (1.6, 0.5, 0.1)), CLASSES, ["labels are not shuffled"]),
        (report_of((0.2, 0.2, 0.2), (1.6, 1.6, 1.6), (1.6, 1.6, 1.6)), CLASSES, ["gain nothing", "5 times its rate"]),
        (report_of(None, (3.0, 3.0, 3.0), (3.0, 2.0, 1.0)), VALUES, ["gain nothing"]),
        (report_of((0.2, 0.1, 0.05), (1.6, 1.6, 1.6), (1.6, 1.6, 1.6)), CLASSES, ["make it worse", "may be too large"]),
        (report_of(None, (3.0, 4.0, 5.0), (3.0, 2.0, 1.0)), VALUES, ["make it worse (mse 3 -> 5)", "may be too large"]),
        (report_of(None, (3.0, 2.0, 1.0), (3.0, 4.0, 5.0)), VALUES, ["too large"]),
        (report_of(None, (3.0, 2.0, 50.0), (3.0, 4.0, float("nan"))), VALUES, ["too large", "400 of 400", "diverged"]),
    ],
)
def test_warnings(report: Report, config: Any, words: list[str]) -> None:
    found = warnings_of(report, config)
    assert bool(found) == bool(words), found
    for word in words:
        assert any(word in line for line in found), found
    assert all("\n" not in line for line in found)
