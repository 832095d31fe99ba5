"""Every algorithm on real characters with one budget: accuracy with its interval, tasks/s and memory.

``python -m tests.bench.accuracies [--store omniglot] [--shots 1] [--tasks 4800] [--filters 64] [--only maml]``
trains each algorithm in both modes of normalisation on 5-way tasks, two at a time, one thread each, and writes
``build/accuracies-<store>-<shots>-shot.md``. What is done already (``build/accuracies/``) is not done again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
MODES = ("inductive", "transductive")
META_BATCH = 4  # many small steps go further than few large ones on so few tasks
TRAINING_QUERIES = 2  # a shot and class: they cost little beside the inner step, and each is a label
QUERIES = 3  # a class in a test task
TEST_TASKS = 600

# What differs from an algorithm's defaults. Rates are for mean losses; with a head that begins at zero the first step
# makes it of the support features alone.
ZERO = {"zero_head": True}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "maml": ({"inner_lr": 2.0}, ZERO),
    "fomaml": ({"inner_lr": 1.0, "inner_steps": 3}, ZERO),
    "anil": ({"inner_lr": 2.0}, ZERO),
    "boil": ({"inner_lr": 0.5}, {}),
    "meta-sgd": ({"inner_lr": 1.0}, ZERO),
    "maml++": ({"inner_lr": 0.5, "inner_steps": 3}, ZERO),
    "cavia": ({"inner_lr": 30.0, "inner_steps": 2}, {"context": 100}),
    "reptile": ({"inner_lr": 0.2, "inner_steps": 10}, ZERO),
    "imaml": ({"inner_lr": 0.5, "inner_steps": 10, "proximal": 0.5}, ZERO),
    "protonet": ({}, {}),
    "protomaml": ({"inner_lr": 0.1}, {}),
    "r2d2": ({}, {}),
}
# Reptile has no query loss: as in its paper it trains on more shots than it is judged on, and takes more steps there.
OTHERWISE: dict[str, dict[str, Any]] = {
    "reptile": {"tasks.shots": 10, "tasks.queries": 1, "evaluation.inner_steps": 20},
}


@dataclass(frozen=True)
class Cell:
    """One run. ``alone``: one query at a time; ``neighbour``: pixel 1-nearest-neighbour on the same tasks."""

    name: str
    mode: str
    accuracy: float
    ci95: float
    alone: float
    alone_ci95: float
    neighbour: float
    tasks_per_second: float
    peak_mib: float


def run_cell(name: str, mode: str, store: str, shots: int, tasks: int, filters: int) -> Cell:
    """Train, and judge on the fixed test tasks."""
    import metadist
    from metadist.evidence.baselines import run_baselines
    from tests.support.quick import train_quickly

    section, model = SETTINGS[name]
    per_step = {"inductive": "per-step-inductive", "transductive": "per-step"}
    normalisation = per_step[mode] if name == "maml++" else mode
    recipe = {
        "tasks": {
            "path": store,
            "ways": 5,
            "shots": shots,
            "queries": max(QUERIES, TRAINING_QUERIES * shots),
            "transform": [{"name": "pixels"}],
        },
        "model": {"name": "conv4", "options": {"filters": filters, **model}},
        "objective": {"name": "classification"},
        "algorithm": {"name": name, **section, "normalisation": normalisation},
        "outer": {
            "lr": 0.003,
            "meta_batch_size": META_BATCH,
            "shard_size": META_BATCH,
            "num_steps": tasks // META_BATCH,
            "schedule": {"name": "cosine"},
        },
        "engine": {"compile": "off"},
        "cluster": {"backend": "local"},
        "evaluation": {
            "every_steps": tasks,
            "num_tasks": TEST_TASKS,
            "validation_tasks": 20,
            "shots": shots,
            "queries": QUERIES,
        },
        "checkpoint": {"every_steps": 1000},
    }
    with TemporaryDirectory() as folder:
        run: metadist.Run = train_quickly(recipe, OTHERWISE.get(name, {}), Path(folder) / "run")
        report = run.evaluate(split="test", num_tasks=TEST_TASKS, which="last")
        neighbour = run_baselines(run.run_dir, report, {})["1-nearest neighbour"]["accuracy"]
        speed = run.summary["tasks_per_second"]
    return Cell(
        name,
        mode,
        *report.at("accuracy"),
        *report.one_query("accuracy"),
        neighbour,
        speed,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def table(cells: list[Cell], store: str, shots: int, tasks: int, filters: int) -> str:
    """The cells as Markdown, algorithms in the order of `SETTINGS`."""
    lines = [
        f"# {store}: 5-way {shots}-shot, {tasks} training tasks each, conv4-{filters}, {TEST_TASKS} test tasks",
        "",
        f"| algorithm | mode | accuracy %, {QUERIES} queries a class in one pass | one query at a time | "
        "above pixel 1-nearest-neighbour | tasks/s, one core | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in sorted(cells, key=lambda cell: (list(SETTINGS).index(cell.name), cell.mode)):
        lines.append(
            f"| {cell.name} | {cell.mode} | {100 * cell.accuracy:.1f} +- {100 * cell.ci95:.1f} | "
            f"{100 * cell.alone:.1f} +- {100 * cell.alone_ci95:.1f} | {100 * (cell.accuracy - cell.neighbour):+.1f} "
            f"({100 * cell.neighbour:.1f}) | {cell.tasks_per_second:.0f} | {cell.peak_mib:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="omniglot")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=4800)
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--only", default=",".join(SETTINGS))
    given = parser.parse_args()
    label = f"{given.store}-{given.shots}-shot"
    done = BUILD / "accuracies" / f"{label}-{given.tasks}-{given.filters}"
    done.mkdir(parents=True, exist_ok=True)
    wanted = [(name, mode) for name in given.only.split(",") for mode in MODES]
    missing = [(name, mode) for name, mode in wanted if not (done / f"{name}-{mode}.json").exists()]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = {
            pool.submit(run_cell, name, mode, given.store, given.shots, given.tasks, given.filters): (name, mode)
            for name, mode in missing
        }
        for finished in as_completed(runs):
            if (error := finished.exception()) is not None:
                print(*runs[finished], error, sep=": ", flush=True)
                continue
            cell = finished.result()
            (done / f"{cell.name}-{cell.mode}.json").write_text(json.dumps(asdict(cell)))
            print(cell, flush=True)
    cells = [Cell(**json.loads(file.read_text())) for file in sorted(done.glob("*.json"))]
    text = table(cells, given.store, given.shots, given.tasks, given.filters)
    (BUILD / f"accuracies-{label}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
