"""What an evaluation may set, and the names of its reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metadist.config.load import load_config
from metadist.errors import UsageError
from metadist.evidence.compare import Judged, compared
from metadist.folder.reports import refuse_other_settings, settings_of, suffix_of
from tests.support.quick import IMAGE_RUN

CLASSES = load_config(IMAGE_RUN)
GROUPS = load_config("air-personalised")
MOST = GROUPS.tasks.most_shots


@pytest.mark.parametrize(
    "name",
    ["cluster.backend", "engine.threads", "evaluation.shots", "evaluation", "tasks.ways", "tasks.within", "code_path"],
)
def test_where_and_on_what_may_change(name: str) -> None:
    refuse_other_settings([name], CLASSES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("algorithm.inner_lr", ""),
        ("algorithm.inner_steps", "did you mean evaluation.inner_steps?"),
        ("tasks.shots", "did you mean evaluation.shots?"),
        ("evaluaton.shots", "did you mean evaluation.shots?"),
        ("cluster_backend", "did you mean cluster.backend?"),
        ("tasks.path", ""),
        ("tracking.uri", ""),
    ],
)
def test_what_was_trained_may_not(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"--set {name}: an evaluation may change") as caught:
        refuse_other_settings(["evaluation.seed", name], CLASSES)
    assert str(caught.value).endswith(hint or "not what was trained")


SUFFIXES: list[tuple[Any, dict[str, Any], int | None, str]] = [
    (CLASSES, {}, None, ""),
    (CLASSES, {"cluster.num_workers": 3, "engine.threads": 2, "evaluation.every_steps": 7}, 6, ""),
    (CLASSES, {}, 4, "_num_tasks_4"),
    (CLASSES, {"evaluation.num_tasks": 4}, None, "_num_tasks_4"),
    (CLASSES, {"evaluation.shots": 5, "tasks.ways": 20}, None, "_ways_20_shots_5"),
    (CLASSES, {"evaluation.inner_steps": 3, "evaluation.seed": 1}, None, "_inner_steps_3_seed_1"),
    (GROUPS, {"evaluation.support": [0, MOST], "evaluation.shots": MOST}, None, ""),
    (GROUPS, {"evaluation.support": [0, MOST], "evaluation.shots": 0}, None, "_support_0"),
    (GROUPS, {"evaluation.shots": 0}, None, "_support_0"),
    (GROUPS, {"evaluation.support": [0, MOST + 9], "evaluation.shots": MOST}, None, f"_of_{MOST + 9}"),
]


@pytest.mark.parametrize(("config", "changed", "num_tasks", "suffix"), SUFFIXES)
def test_a_report_is_named_by_what_differs(
    config: Any, changed: dict[str, Any], num_tasks: int | None, suffix: str
) -> None:
    judged = load_config(config, changed)
    assert suffix_of(settings_of(judged, num_tasks), settings_of(config)) == suffix


def test_a_run_with_a_task_that_is_not_finite_loses() -> None:
    def judged(name: str, last: float) -> Judged:
        report = {"task_set": "t", "num_tasks": 3, "split": "test", "one_query_at_a_time": {"mse": 1.0}}
        facts = {"checkpoint": 1, "queries": 2, "normalisation": "inductive"}
        values = np.float32([[1.0], [2.0], [last]])
        scores = {"query/mse": values, "one_query/mse": values[:, 0]}
        return Judged(name=name, label="maml", report={**report, **facts}, scores=scores, maximise=False)

    sound, diverged = judged("sound", 3.0), judged("diverged", np.inf)
    with np.errstate(invalid="ignore"):
        assert compared(diverged, sound)["in_one_pass"]["winner"] == "sound"
        assert compared(sound, diverged)["one_query_at_a_time"]["winner"] == "sound"
        assert compared(diverged, diverged)["in_one_pass"]["winner"] is None
