"""The golden runs: 20 outer steps of sinusoid regression, and how their losses are written down.

``python -m tests.golden.golden`` writes the files anew; say in the commit why they had to change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.quick import SMALL_RUN, journalled, train_quickly

FOLDER = Path(__file__).parent
STEPS = {"outer.num_steps": 20, "evaluation.num_tasks": 20, "model.options": {"hidden": [40, 40]}}
RUNS: dict[str, dict[str, Any]] = {
    "maml": {},
    "maml-3-steps-cosine": {"algorithm.inner_steps": 3, "outer.schedule": {"name": "cosine"}},
    "maml-head": {"algorithm.adapt": ["head.*"], "algorithm.inner_lr": 0.05},
    "fomaml-sgd": {"algorithm.name": "fomaml", "outer.optimizer": "sgd", "outer.clip_norm": 1.0},
    "reptile": {"algorithm.name": "reptile", "algorithm.inner_steps": 5},
}


def losses(name: str, run_dir: Path) -> list[tuple[int, float, float]]:
    """(step, query loss, gradient norm) of a golden run."""
    run = train_quickly(SMALL_RUN, {**STEPS, **RUNS[name]}, run_dir)
    rows = [row for row in journalled(run.run_dir, "metrics") if "train/query_loss" in row]
    return [(row["step"], row["train/query_loss"], row["train/gradient_norm"]) for row in rows]


def read(name: str) -> list[tuple[int, float, float]]:
    """The written figures."""
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()[1:]
    return [(int(step), float(loss), float(norm)) for step, loss, norm in (line.split() for line in lines)]


def write(name: str, rows: list[tuple[int, float, float]]) -> None:
    lines = ["step query_loss gradient_norm", *(f"{step} {loss:.9g} {norm:.9g}" for step, loss, norm in rows)]
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    import tempfile

    for run_name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            write(run_name, losses(run_name, Path(folder) / "run"))
