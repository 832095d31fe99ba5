"""Pictures of a run, as PNG files made from data: the training curve, and the score against the inner steps.

Figures are drawn on an Agg canvas of their own: no window, no `pyplot`, no global state, so threads and
notebooks are not disturbed. matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metadist.tracking import Event

Series = Sequence[tuple[int, float]]
"""(outer step, value), in order."""

_ERRORS = ("loss", "mse", "mae", "pinball")  # where less is better; a panel of their own, on a logarithmic scale
_SCORES = ("accuracy", "loss", "mse", "mae", "pinball")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by everyone
_SMOOTH_FROM = 100


def metric_series(events: Iterable[Event], names: Iterable[str] | None = None) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a journal by name.

    Args:
        events: What `metadist.tracking.read_events` gives.
        names: Which; all when None. A name that does not occur is left out.
    """
    wanted = None if names is None else frozenset(names)
    series: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if event.kind == "metrics" and event.step is not None:
            for name, value in event.data.items():
                if wanted is None or name in wanted:
                    series.setdefault(name, []).append((event.step, value))
    return series


def smooth(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and those before it, ``width`` in all (fewer at the start).

    >>> smooth([1.0, 3.0, 5.0, 7.0], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    total, means = 0.0, []
    for index, value in enumerate(values):
        total += value
        if index >= width:
            total -= values[index - width]
        means.append(total / min(index + 1, width))
    return means


def plot_training_curve(series: Mapping[str, Series], path: str | Path, *, title: str = "") -> Path:
    """Draw metrics against the outer step: losses above, on a logarithmic scale if positive; the rest below.

    A series of 100 points and more is drawn pale, with its running mean over a fiftieth of it. Values that
    are not finite cannot be drawn; the legend says how many there are.

    Args:
        series: By metric name, for instance ``train/query_loss`` and ``validation/accuracy``.
        path: The PNG to write; its folder is made, an older picture replaced.
        title: A line above the picture.

    Returns:
        The path.

    Raises:
        ValueError: There is nothing to draw.
    """
    panels = [
        {name: points for name, points in series.items() if points and name.endswith(_ERRORS) is is_error}
        for is_error in (True, False)
    ]
    panels = [panel for panel in panels if panel]
    if not panels:
        raise ValueError(f"no metric to draw in {path}: the journal has none of the wanted names")
    figure = _figure(height=3.0 * len(panels) + 0.6, title=title)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, index + 1)
        for colour, (name, points) in zip(_cycle(len(panel)), panel.items(), strict=True):
            _draw_series(axes, name, points, colour)
        values = [value for points in panel.values() for _, value in points if math.isfinite(value)]
        if all(name.endswith(_ERRORS) for name in panel) and values and min(values) > 0:
            axes.set_yscale("log")
        axes.legend(fontsize=8, frameon=False)
        axes.set_xlabel("outer step")
    return _write(figure, Path(path))


def plot_inner_steps(
    by_inner_steps: Mapping[str, Mapping[str, float]],
    path: str | Path,
    *,
    title: str = "",
    chance: float | None = None,
) -> Path:
    """Draw an evaluation's score after 0, 1, 2, ... inner steps, with its 95 % intervals.

    Args:
        by_inner_steps: As in an evaluation report: ``{"0": {"accuracy": 0.2, "ci95": 0.01}, "1": ...}``; the
        score is
            the accuracy, loss or mse.
        path: The PNG to write; its folder is made, an older picture replaced.
        title: A line above the picture; say the mode, the query size and the number of tasks.
        chance: The score of a guess, drawn as a line.

    Returns:
        The path.

    Raises:
        ValueError: The report is empty or its rows have no common score.
    """
    rows = sorted((int(steps), row) for steps, row in by_inner_steps.items())
    score = next((name for name in _SCORES if rows and all(name in row for _, row in rows)), None)
    if score is None:
        raise ValueError(f"nothing to draw in {path}: every number of inner steps needs one of {', '.join(_SCORES)}")
    steps = [step for step, _ in rows]
    means = [row[score] for _, row in rows]
    margins = [row.get("ci95", 0.0) for _, row in rows]
    figure = _figure(height=3.6, title=title)
    axes = figure.add_subplot(1, 1, 1)
    label = f"{score}, 95 % interval{_not_finite(means)}"
    axes.errorbar(steps, means, yerr=margins, color=_COLOURS[0], marker="o", capsize=3, linewidth=1.5, label=label)
    if chance is not None:
        axes.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance")
    axes.set_xticks(steps)
    axes.set_xlabel("inner steps")
    axes.set_ylabel(score)
    axes.legend(fontsize=8, frameon=False)
    return _write(figure, Path(path))


def _draw_series(axes: Axes, name: str, points: Series, colour: str) -> None:
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    steps, values = [step for step, _ in finite], [value for _, value in finite]
    label = f"{name}{_not_finite([value for _, value in points])}"
    if len(finite) < _SMOOTH_FROM:
        axes.plot(steps, values, color=colour, linewidth=1.5, marker="." if len(finite) < 50 else "", label=label)
        return
    axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.3)
    axes.plot(steps, smooth(values, len(values) // 50), color=colour, linewidth=1.5, label=label)


def _not_finite(values: Sequence[float]) -> str:
    count = sum(not math.isfinite(value) for value in values)
    return f" ({count} not finite)" if count else ""


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _figure(*, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _write(figure: Figure, path: Path) -> Path:
    """Write the PNG whole or not at all; the same data give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    os.replace(temporary, path)
    return path
