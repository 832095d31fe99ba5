"""Pictures: the right series, whole files, no global state."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from metadist.plots import metric_series, plot_inner_steps, plot_training_curve, smooth
from metadist.tracking import Journal, read_events

PNG = b"\x89PNG\r\n\x1a\n"


def is_whole_png(path: Path) -> bool:
    data = path.read_bytes()
    return data.startswith(PNG) and data[-12:].startswith(b"\0\0\0\0IEND")


def ink(path: Path) -> int:
    """How many pixels are not white."""
    from matplotlib.image import imread

    return int((imread(path)[..., :3] < 0.9).any(axis=-1).sum())


def test_series_of_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.event("started")
        journal.metrics(0, {"train/query_loss": 2.0, "perf/tasks_per_second": 5.0})
        journal.metrics(1, {"train/query_loss": math.inf})
    events = list(read_events(tmp_path))
    assert metric_series(events, ["train/query_loss", "absent"]) == {"train/query_loss": [(0, 2.0), (1, math.inf)]}
    assert set(metric_series(events)) == {"train/query_loss", "perf/tasks_per_second"}


def test_smooth_is_a_running_mean() -> None:
    assert smooth([4.0, 2.0, 0.0], 3) == [4.0, 3.0, 2.0]
    assert smooth([4.0, 2.0], 1) == [4.0, 2.0]
    assert smooth([], 3) == []


@pytest.mark.parametrize("count", [1, 30, 500])
def test_training_curve(tmp_path: Path, count: int) -> None:
    series = {
        "train/query_loss": [(step, 1 / (step + 1)) for step in range(count)],
        "validation/accuracy": [(step, math.nan if step == 3 else step / count) for step in range(count)],
    }
    path = plot_training_curve(series, tmp_path / "plots" / "curve.png", title="glyphs")
    assert is_whole_png(path)
    assert ink(path) > ink(plot_training_curve({"a": [(0, 1.0)]}, tmp_path / "one.png"))
    assert [item.name for item in path.parent.iterdir()] == ["curve.png"]


def test_values_that_no_scale_can_show(tmp_path: Path) -> None:
    series = {"loss": [(0, math.nan), (1, math.inf)], "mse": [(0, -1.0), (1, 0.0)]}
    assert is_whole_png(plot_training_curve(series, tmp_path / "curve.png"))


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    series = {"loss": [(0, 1.0), (1, 0.5)]}
    first, second = (plot_training_curve(series, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"curve\.png"):
        plot_training_curve({"loss": []}, tmp_path / "curve.png")
    with pytest.raises(ValueError, match="accuracy, loss, mse"):
        plot_inner_steps({}, tmp_path / "steps.png")
    with pytest.raises(ValueError, match="accuracy, loss, mse"):
        plot_inner_steps({"0": {"accuracy": 0.2}, "1": {"mse": 0.2}}, tmp_path / "steps.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("score", ["accuracy", "mse"])
def test_inner_steps(tmp_path: Path, score: str) -> None:
    report = {str(steps): {score: 0.2 + steps / 20, "ci95": 0.01} for steps in (10, 5, 1, 0)}
    assert is_whole_png(plot_inner_steps(report, tmp_path / "steps.png", title="5-way 1-shot", chance=0.2))


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from metadist.plots import plot_inner_steps\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot_inner_steps({'0': {'accuracy': 0.2}, '1': {'accuracy': 0.9}}, sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "steps.png")], check=True)
