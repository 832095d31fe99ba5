"""Customers, whose best possible answer is known: the optimum is one, and the recipe comes close to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import metadist
from metadist.config.load import load_config
from metadist.evidence.baselines import BEATS, _known_optimum
from metadist.evidence.controls import run_evidence
from metadist.run import evaluate_sizes
from metadist.sources import build_source
from tasks_store import Column, Store, load_split, named_store, write_store
from tasks_store.generators.customers import NOISE, bayes_optimum, build_customers, population

ROOT = Path(__file__).parents[2]
SIZES = (0, 1, 5, 20)


def test_the_optimum_is_the_posterior_mean_in_its_other_form() -> None:
    """By precisions instead of covariances, and without rows the mean of all customers."""
    draw, known = np.random.default_rng(0), population()
    x, y, queries = (draw.normal(size=shape).astype(np.float32) for shape in ((7, 4), (7, 1), (3, 4)))
    a, q = (np.c_[rows.astype(float), np.ones(len(rows))] for rows in (x, queries))
    precision = np.linalg.inv(known.covariance)
    posterior = np.linalg.inv(precision + a.T @ a / NOISE**2)
    mean = posterior @ (precision @ known.mean + a.T @ y[:, 0].astype(float) / NOISE**2)
    assert np.allclose(bayes_optimum(x, y, queries)[:, 0], q @ mean, rtol=1e-8)
    assert np.allclose(bayes_optimum(x[:0], y[:0], queries)[:, 0], q @ known.mean)


def test_no_other_prior_does_better(tmp_path: Path) -> None:
    """The store's customers are what the optimum supposes: its error falls to the noise, and a ridge's is larger."""
    build_customers(tmp_path / "store", sizes={"train": 2, "validation": 2, "test": 400})
    data = load_split(Store.open(tmp_path / "store"), "test")
    errors: dict[str, list[float]] = {"optimum": [], "ridge": []}
    for start, count in zip(data.offsets[:-1], data.counts, strict=True):
        x, y = (data.arrays[name][start : start + count] for name in ("x", "y"))
        y = y.reshape(count, 1)
        optimum = bayes_optimum(x[:40], y[:40], x[40:])
        a, q = (np.c_[rows.astype(float), np.ones(len(rows))] for rows in (x[:40], x[40:]))
        ridge = q @ np.linalg.solve(a.T @ a + np.eye(5), a.T @ y[:40])
        errors["optimum"].append(float(((optimum - y[40:]) ** 2).mean()))
        errors["ridge"].append(float(((ridge - y[40:]) ** 2).mean()))
    gap = np.array(errors["ridge"]) - np.array(errors["optimum"])
    assert gap.mean() > 3 * gap.std(ddof=1) / np.sqrt(len(gap))
    assert NOISE**2 < np.mean(errors["optimum"]) < 1.25 * NOISE**2


@pytest.mark.laws
def test_the_recipe_comes_close_to_the_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 5 % with 0, 1, 5 and 20 rows, where the pooled model is not once there are rows."""
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = metadist.train(load_config("customers"), run_dir=tmp_path / "run")
    table = {}
    for size, report in evaluate_sizes(run.run_dir, SIZES).items():
        wanted = {"evaluation.support": list(SIZES), "evaluation.shots": size}
        found = run_evidence(run.run_dir, report, wanted, lambda message: None)
        best = found["Bayes optimum"]["mse"]
        ours, pooled = report.at("mse")[0] / best, found["pooled model"]["mse"] / best
        table[size] = {"optimum": best, "run / optimum": ours, "pooled / optimum": pooled}
        assert ours < 1.05
        assert found["Bayes optimum"]["verdict"] != BEATS, "better than the best there is: answers leak"
        assert pooled > 1.05 or size == 0
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "customers.json").write_text(json.dumps(table, indent=1))
    print(json.dumps(table, indent=1))


def test_the_optimum_is_known_of_generated_customers_alone(customers: str, tmp_path: Path) -> None:
    """Not of a table of the same name, nor where the inputs are transformed."""
    generated = build_source(load_config("customers"), str(named_store(customers)))
    assert list(_known_optimum(generated, "mse")) == ["Bayes optimum"]
    changed = load_config("customers", {"tasks.transform": [{"name": "standardize"}]})
    assert not _known_optimum(build_source(changed, str(named_store(customers))), "mse")
    assert not _known_optimum(generated, "mae")
    rows = [
        {"group": f"{split}-{who}", "split": split, "x": np.zeros(2, np.float32), "y": 0.0}
        for split in ("train", "validation", "test")
        for who in range(2)
        for _ in range(60)
    ]
    columns = [Column(name="x", dtype="float32", shape=(2,)), Column(name="y", dtype="float32")]
    write_store(rows, tmp_path / "customers", kind="groups", columns=columns)
    own = build_source(
        load_config("customers", {"tasks.path": str(tmp_path / "customers")}), str(tmp_path / "customers")
    )
    assert not _known_optimum(own, "mse")
