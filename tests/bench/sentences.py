"""Sentences of held-out intents by a real small encoder: what meta-learned adapters add to it, in pairs.

``python -m tests.bench.sentences [--algorithms protonet,r2d2]`` imports Banking77 and CLINC150 (whole
domains held out), trains the shipped recipes, and judges each on the same test tasks as the frozen encoder with class
means by cosine, which is where the recipes' adapters start. It writes ``build/sentences.md``; runs are kept in
``build/sentences/`` and not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import metadist
from metadist.checkpoint import steps
from metadist.config.load import load_config
from metadist.evaluate import evaluate, mean_ci95
from metadist.parameters import flatten
from metadist.run_reader import opened
from tasks_store import metadist_home
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table
from tests.support.minilm import fetch
from tests.support.quick import train_quickly
from tests.support.tables import DATA

BUILD = Path(__file__).parents[2] / "build"
ENCODER = "all-MiniLM-L6-v2"
Cell = dict[str, Any]
CELLS: dict[str, Cell] = {
    "Banking77, 5-way 1-shot": {
        "recipe": "banking77-20w1s",  # what banking77-5w1s trains on as well
        "set": {"tasks.ways": 5, "evaluation.queries": 2},
        "tasks": 300,
        "points": 3.0,
    },
    "Banking77, 20-way 1-shot": {"recipe": "banking77-20w1s", "tasks": 150, "points": 5.0},
    "CLINC150, 5-way 1-shot": {"recipe": "clinc150-5w1s", "tasks": 300, "points": 0.0},
    "CLINC150, 5-way 1-shot within a domain": {
        "recipe": "clinc150-5w1s",
        "set": {"tasks.within": "domain"},
        "tasks": 300,
        "points": 3.0,
    },
}
"""What is judged; ``points``: what adapters must add at least."""
ALGORITHMS: dict[str, dict[str, Any]] = {
    "protonet": {},
    "r2d2": {"algorithm": {"name": "r2d2"}},
    "anil": {"algorithm": {"name": "anil", "inner_steps": 2, "inner_lr": 0.5}},
}

FIXED_HEADS = {"anil"}
"""What they learn has a row for each way, so a cell of other ways is trained for itself."""


def make_stores(home: Path) -> None:
    """The encoder and the two stores, by name below ``home``."""
    fetch(home / "encoders" / ENCODER)
    tables: dict[str, dict[str, Any]] = {
        "banking77": {"split": "0.46,0.27,0.27"},
        "clinc150": {"split_by": "domain", "drop_label": ("oos",)},
    }
    for name, options in tables.items():
        place = home / "stores" / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            source = DATA / name / f"{name}.parquet"
            import_table(TableRequest(files=(source,), label="intent", value=("text",), **options), place)


def trained(cell: Cell, algorithm: str) -> metadist.Run:
    """The cell's recipe with this algorithm, trained where it is not there yet."""
    recipe, settings = cell["recipe"], ALGORITHMS[algorithm]
    folder = BUILD / "sentences" / f"{recipe}-{algorithm}"
    if algorithm in FIXED_HEADS and "tasks.ways" in cell.get("set", {}):
        settings, folder = settings | cell["set"], folder.with_name(f"{folder.name}-{cell['set']['tasks.ways']}-way")
    config = load_config(recipe, settings)
    if config.outer.num_steps not in steps(folder):  # a resume of what is done would start everything for nothing
        train_quickly(config, {}, folder, resume=True)
    return metadist.load_run(folder)


def accuracies(run: metadist.Run, cell: Cell, *, start: bool = False) -> NDArray[np.float64]:
    """Of each test task; with ``start`` before any training."""
    with opened(run, cell.get("set", {})) as (parts, group):
        params = flatten(parts.algorithm.init(parts.config.seed)) if start else flatten(run.params)
        report = evaluate(group, params, parts.source, parts.config, split="test", step=0, num_tasks=cell["tasks"])
    return report.scores.query["accuracy"][:, -1].astype(np.float64)


def row(name: str, algorithm: str, frozen: NDArray[np.float64]) -> str:
    """A line of the table; ``frozen``: accuracies on the cell's tasks."""
    cell = CELLS[name]
    ours = accuracies(trained(cell, algorithm), cell)
    (mean, half), (gain, spread) = mean_ci95(ours), mean_ci95(ours - frozen)
    met = "yes" if 100 * gain >= cell["points"] and gain > spread else "no"
    return (
        f"| {name} | {algorithm} | {100 * frozen.mean():.1f} | {100 * mean:.1f} +- {100 * half:.1f} | "
        f"{100 * gain:+.1f} +- {100 * spread:.1f} | {cell['points']:+.0f}: {met} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithms", default="protonet")
    parser.add_argument("--only", action="append", choices=list(CELLS), help="one cell; may be repeated")
    given = parser.parse_args()
    make_stores(metadist_home())
    lines = [
        "| test tasks of held-out intents | algorithm | frozen encoder, class means | adapters | added, paired | bar |",
        "|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    for name in given.only or CELLS:
        # The frozen encoder with class means is where the recipe's own algorithm starts.
        frozen = accuracies(trained(CELLS[name], "protonet"), CELLS[name], start=True)
        for algorithm in given.algorithms.split(","):
            lines.append(row(name, algorithm, frozen))
            print(lines[-1], flush=True)
    (BUILD / "sentences.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
