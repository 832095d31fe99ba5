"""``evaluate --baselines`` and ``compare``: on the same tasks, in pairs, and said also where the model loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metadist
from metadist.evidence.baselines import figures_of, verdict_line
from metadist.evidence.controls import POOLED, run_evidence
from metadist.folder.run_folder import read_config
from tests.cli.tiny import Call
from tests.support.quick import SMALL_RUN


def scores(run_dir: Path, step: int) -> dict[str, Any]:
    with np.load(run_dir / "evaluation" / f"test-{step:06d}" / "tasks.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.slow
def test_baselines_of_a_classifier(call: Call, workplace: Path) -> None:
    assert call("train", "tiny.yaml", "--run-dir", "run", "--set", "algorithm.inner_lr=0").code == 0
    answer = call("evaluate", "run", "--baselines", "--json")
    found = answer.json["baselines"]
    assert list(found) == [
        "zero inner steps",
        "random start, adapted",
        "1-nearest neighbour",
        "class means",
        "logistic regression",
    ]
    zero = found["zero inner steps"]  # an inner rate of zero: the same answers
    assert zero["difference"] == zero["difference_ci95"] == 0.0 and not zero["beats_model"]
    assert zero["accuracy"] == answer.json["by_inner_steps"]["1"]["accuracy"]
    means = found["class means"]
    assert means["accuracy"] > 0.9 and means["beats_model"], "clusters are easy, and this model does not adapt"
    assert means["difference"] == pytest.approx(answer.json["by_inner_steps"]["1"]["accuracy"] - means["accuracy"])
    text = call("evaluate", "run", "--baselines").out
    assert "class means" in text and "<- beats the model" in text
    last = text.splitlines()[-1]
    assert last.startswith("  verdict: the model ") and "cannot be told apart from zero inner steps" in last
    assert "class means" in last[last.index("is beaten by") :] and "(paired 95 % intervals over" in last


def test_a_verdict_follows_from_the_paired_interval() -> None:
    """A difference counts only beyond its interval, in the direction of the metric; a broken side loses."""
    draw = np.random.default_rng(0)
    easy = draw.normal(0, 10, 200)  # tasks differ far more than models do
    near, far = easy + draw.normal(0.3, 1, 200), easy + draw.normal(0.0, 1, 200)
    broken = np.where(np.arange(200) == 3, np.nan, easy)
    for values, ours, lower_is_better in (
        (near, easy, "beats"),
        (easy, near, "is beaten by"),
        (far, easy, "cannot be told apart from"),
        (broken, easy, "beats"),
        (easy, broken, "is beaten by"),
        (broken, broken, "cannot be told apart from"),
    ):
        found = figures_of("mse", values, ours)
        assert found["verdict"] == lower_is_better and found["beats_model"] == (lower_is_better == "is beaten by")
        mirrored = figures_of("accuracy", -values, -ours)
        assert mirrored["verdict"] == lower_is_better
    found = {name: figures_of("mse", values, easy) for name, values in (("a", near), ("b", far), ("c", easy - 1))}
    wanted = "the model beats a; cannot be told apart from b; is beaten by c (paired 95 % intervals over 200 tasks)"
    assert verdict_line(found, 200) == f"verdict: {wanted}"


@pytest.mark.slow
def test_baselines_of_a_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pooled model is what the same configuration trains without inner steps; it is kept for the next time."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = metadist.train(SMALL_RUN, run_dir=tmp_path / "run")
    report = run.evaluate()
    heard: list[str] = []
    found = run_evidence(run.run_dir, report, {}, heard.append)
    assert list(found) == [
        "zero inner steps", "random start, adapted", "pooled model", "pooled, fine-tuned", "support mean",
        "ridge regression",
    ]  # fmt: skip
    alone = metadist.train(SMALL_RUN, set={"algorithm.inner_steps": 0}, run_dir=tmp_path / "alone")
    pooled = metadist.load_run(run.run_dir / POOLED)
    assert metadist.params_sha256(pooled.params) == metadist.params_sha256(alone.params)
    assert found["pooled model"]["mse"] == alone.evaluate().at("mse", 0)[0]
    assert read_config(run.run_dir / POOLED).evaluation.inner_steps == 1
    untrained = metadist.train(SMALL_RUN, set={"outer.lr": 1e-12, "outer.num_steps": 1}, run_dir=tmp_path / "untrained")
    assert found["random start, adapted"]["mse"] == pytest.approx(untrained.evaluate().at("mse")[0])
    assert run_evidence(run.run_dir, report, {}, heard.append) == found
    assert len(heard) == 1 and "training a pooled model" in heard[0], "it is trained once"


@pytest.mark.slow
def test_two_runs_are_compared_task_by_task(call: Call, workplace: Path) -> None:
    for name, settings in (("a", {"algorithm.inner_lr": 0.5}), ("b", {"algorithm.inner_lr": 0.0})):
        metadist.train("tiny.yaml", set={**settings, "evaluation.num_tasks": 40}, run_dir=name)
    found = call("compare", "a", "b", "--json")
    assert "judging a on test tasks" in found.err
    part = found.json["in_one_pass"]
    ours, theirs = (
        scores(Path(name), part["runs"][name]["checkpoint"])["query/accuracy"][:, -1].astype(float) for name in "ab"
    )
    gap = ours - theirs
    assert part["difference"] == pytest.approx(gap.mean())
    assert part["difference_ci95"] == pytest.approx(1.959964 * gap.std(ddof=1) / np.sqrt(40), rel=1e-6)
    assert part["winner"] == "a" and found.json["num_tasks"] == 40
    reverse = call("compare", "b", "a", "--json")
    assert "judging" not in reverse.err, "what was judged is not judged again"
    assert reverse.json["in_one_pass"]["winner"] == "a"
    assert reverse.json["in_one_pass"]["difference"] == -part["difference"]
    text = call("compare", "a", "b").out
    assert "a is better" in text and "points" in text
    table = call("compare", "a", "b", "--latex").out
    assert table.startswith(r"\begin{tabular}") and table.count(r"\pm") == 4
    same = call("compare", "a", "a", "--json").json["in_one_pass"]
    assert same["winner"] is None and same["difference"] == 0


@pytest.mark.slow
def test_runs_on_other_tasks_are_not_compared(call: Call, workplace: Path) -> None:
    metadist.train("tiny.yaml", run_dir="a")
    metadist.train("tiny.yaml", set={"evaluation.queries": 2}, run_dir="b")
    answer = call("compare", "a", "b")
    assert answer.code == 65
    assert "other tasks: queries 3 and 2" in answer.error
    report = next(Path("b/evaluation").glob("test-*/report.json"))
    changed = {**json.loads(report.read_text()), "task_set": "0", "queries": 3}
    report.write_text(json.dumps(changed))
    assert "another store, or another evaluation.seed" in call("compare", "a", "b").error
