"""Beijing's air, a real table: verdicts on the baselines are printed whichever way they go, and are those of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

import metadist
from metadist import Run
from metadist.cli import app
from metadist.config.load import load_config
from metadist.evidence.baselines import VERDICTS
from metadist.evidence.controls import POOLED
from metadist.folder.run_folder import read_config
from metadist.registry.report import raw_tasks
from metadist.sources import build_source
from tests.support.quick import NoMirror
from tests.support.tables import hours_store

ROOT = Path(__file__).parents[2]
SIZES = (0, 24)
SMALLER = {
    "model.options.hidden": [16],
    "outer.num_steps": 20,
    "outer.meta_batch_size": 8,
    "outer.shard_size": 8,
    "evaluation.every_steps": 20,
    "evaluation.num_tasks": 40,
    "evaluation.validation_tasks": 8,
}
SHORTER = {"outer.num_steps": 300, "evaluation.num_tasks": 200, "evaluation.validation_tasks": 100}


@pytest.fixture(autouse=True)
def _nothing_mirrored() -> Iterator[None]:
    with (
        mock.patch("metadist.run.MlflowMirror", NoMirror),
        mock.patch("metadist.run_reader.MlflowMirror", NoMirror),
        mock.patch("metadist.run.draw", lambda folder: []),
    ):
        yield


def test_the_verdict_is_that_of_the_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = hours_store(tmp_path / "air", where="station = 'Tiantan' and month <= 4")
    run = trained(store, tmp_path, SMALLER)
    check(run, capsys)
    pooled = read_config(run.run_dir / POOLED)
    assert (pooled.algorithm.inner_steps, pooled.evaluation.inner_steps) == (0, 10), "it is fine-tuned in earnest"


@pytest.mark.laws
@pytest.mark.parametrize("target", ["PM2.5", "O3"])
def test_both_targets(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the whole table the recipe beats what the support set alone gives, even when it is cut short."""
    run = trained(hours_store(tmp_path / "air", target=target), tmp_path, SHORTER)
    lines, verdicts = check(run, capsys)
    for name in ("support mean", "ridge regression"):
        assert verdicts[-1][name] == "beats", name
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / f"air-{target}.txt").write_text("\n".join(lines))


def trained(store: str, folder: Path, settings: dict[str, Any]) -> Run:
    return metadist.train(load_config("air-personalised", {**settings, "tasks.path": store}), run_dir=folder / "run")


def check(run: Run, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The printed verdicts against scores by task: ours, the pooled model's, and the support mean's by hand.

    Returns:
        The lines, and of each size of the support set the verdict on every baseline.
    """
    sizes = ",".join(map(str, SIZES))
    capsys.readouterr()
    app(["evaluate", str(run.run_dir), "--support", sizes, "--baselines"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    printed = [named(line.strip()) for line in lines if line.strip().startswith("verdict: ")]
    assert len(printed) == len(SIZES)
    for size, verdicts in zip(SIZES, printed, strict=True):
        ours = scores(run.run_dir, size)[:, -1]
        exact = {"pooled model": scores(run.run_dir / POOLED, size)[:, 0]}
        if size:
            exact["support mean"] = support_means(run, size, len(ours))
        for name, values in exact.items():
            gap = ours - values
            half = 1.959964 * gap.std(ddof=1) / np.sqrt(len(gap))
            said = VERDICTS[1] if abs(gap.mean()) <= half else VERDICTS[0] if gap.mean() < 0 else VERDICTS[2]
            assert verdicts[name] == said, (size, name, gap.mean(), half)
        assert ("ridge regression" in verdicts) == (size > 0)
    return lines, printed


def scores(run_dir: Path, size: int) -> NDArray[np.float64]:
    """Mean absolute errors by task and inner step, in micrograms, as the report in the folder has them."""
    suffix = "" if size == load_config("air-personalised").tasks.most_shots else f"_support_{size}"
    (folder,) = run_dir.glob(f"evaluation/test-??????{suffix}")
    with np.load(folder / "tasks.npz") as kept:
        return np.asarray(kept["query/mae"], np.float64)


def support_means(run: Run, size: int, num_tasks: int) -> NDArray[np.float64]:
    """Errors of the mean of the support set, in the logarithms that the recipe asks for."""
    config = load_config(run.run_dir / "resolved.yaml", {"evaluation.shots": size})
    tasks = raw_tasks(build_source(config, config.tasks.path), "test", num_tasks)
    return np.array(
        [np.abs(task.query_y - np.expm1(np.log1p(task.support_y[-size:]).mean())).mean() for task in tasks], np.float64
    )


def named(line: str) -> dict[str, str]:
    """``verdict: the model beats A / B; is beaten by C (...)`` by baseline."""
    found = {}
    for part in line.removeprefix("verdict: the model ").partition(" (paired")[0].split("; "):
        (what,) = (verdict for verdict in VERDICTS if part.startswith(verdict))
        found.update(dict.fromkeys(part.removeprefix(f"{what} ").split(" / "), what))
    return found
