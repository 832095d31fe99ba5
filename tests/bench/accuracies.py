"""Every algorithm on real characters with one budget: accuracy with its interval, tasks/s and memory.

``python -m tests.bench.accuracies [--store omniglot] [--shots 1] [--tasks 4800] [--filters 32] [--only maml]``
trains each algorithm in both modes of normalisation on 5-way tasks, two at a time (``--at-once``), one thread each;
then it measures what a meta-gradient costs, one at a time, and writes ``build/accuracies-<store>-<shots>-shot.md``.
What is done already (``build/accuracies/``) is not done again; ``--judge-only`` leaves the costs to another call, with
nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.cost import ROOT, Cost, cost_of

BUILD = ROOT / "build"
MODES = ("inductive", "transductive")
META_BATCH = 4  # many small steps go further than few large ones on so few tasks
TEST_TASKS = 600

# What differs from an algorithm's defaults. Rates are for mean losses; with a head that begins at zero the first step
# makes it of the support features alone. iMAML wants an inner problem that a few steps solve: that of the head alone.
ZERO = {"zero_head": True}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "maml": ({"inner_lr": 1.0, "inner_steps": 2}, ZERO),
    "fomaml": ({"inner_lr": 1.0, "inner_steps": 3}, ZERO),
    "anil": ({"inner_lr": 2.0}, ZERO),
    "boil": ({"inner_lr": 0.5}, {}),
    "meta-sgd": ({"inner_lr": 1.0}, ZERO),
    "maml++": ({"inner_lr": 0.5, "inner_steps": 2}, ZERO),
    "cavia": ({"inner_lr": 100.0, "inner_steps": 2}, {"context": 128, "film": "features"}),
    "reptile": ({"inner_lr": 0.5, "inner_steps": 8, "inner_batch_size": 10}, ZERO),
    "imaml": ({"inner_lr": 0.3, "inner_steps": 6, "proximal": 0.1, "adapt": ["head.*"]}, ZERO),
    "protonet": ({}, {}),
    "protomaml": ({"inner_lr": 0.1}, {}),
    "r2d2": ({}, {}),
}
# Reptile has no query loss: as in its paper it trains on more shots than it is judged on, in mini-batches, and takes
# more steps there.
REPTILE_SHOTS = 10
OTHERWISE: dict[str, dict[str, Any]] = {
    "reptile": {"tasks.shots": REPTILE_SHOTS, "tasks.queries": 1, "evaluation.inner_steps": 10},
}
# With five shots MAML gains from more steps than it is trained with (its paper trains with five and judges after ten).
LONGER: dict[tuple[str, int], dict[str, Any]] = {("maml", 5): {"evaluation.inner_steps": 10}}


@dataclass(frozen=True)
class Judged:
    """The accuracies of a cell. ``alone``: one query at a time."""

    name: str
    mode: str
    accuracy: float
    ci95: float
    alone: float
    alone_ci95: float


def algorithm_section(name: str, mode: str) -> dict[str, Any]:
    """The ``algorithm`` section of a cell."""
    per_step = {"inductive": "per-step-inductive", "transductive": "per-step"}
    return {"name": name, **SETTINGS[name][0], "normalisation": per_step[mode] if name == "maml++" else mode}


def queries_of(shots: int) -> int:
    """Queries a class, trained on and judged on alike: they cost little beside the inner step, and each is a label."""
    return max(3, 2 * shots)


def judge(name: str, mode: str, store: str, shots: int, tasks: int, filters: int) -> Judged:
    """Train, and judge on the fixed test tasks."""
    from tests.support.quick import train_quickly

    recipe = {
        "tasks": {
            "path": store,
            "ways": 5,
            "shots": shots,
            "queries": queries_of(shots),
            "transform": [{"name": "pixels"}],
        },
        "model": {"name": "conv4", "options": {"filters": filters, **SETTINGS[name][1]}},
        "objective": {"name": "classification"},
        "algorithm": algorithm_section(name, mode),
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
            "queries": queries_of(shots),
        },
        "checkpoint": {"every_steps": 1000},
    }
    with TemporaryDirectory() as folder:
        run = train_quickly(recipe, OTHERWISE.get(name, {}) | LONGER.get((name, shots), {}), Path(folder) / "run")
        report = run.evaluate(split="test", num_tasks=TEST_TASKS, which="last")
    return Judged(name, mode, *report.at("accuracy"), *report.one_query("accuracy"))


def pixel_neighbour(store: str, shots: int) -> float:
    """Accuracy of the 1-nearest neighbour of pixels on the same test tasks."""
    import metadist
    from metadist.evidence.baselines import nearest_neighbour

    tasks = metadist.open_tasks(store, split="test", ways=5, shots=shots, queries=queries_of(shots))
    found = tasks.source.fixed("test", 0, TEST_TASKS)
    assert found.support is not None and found.query is not None
    x, queries = (half.x.flatten(2).numpy() for half in (found.support, found.query))
    right = [
        (nearest_neighbour(x[i], found.support.y[i].numpy(), queries[i]) == found.query.y[i].numpy()).mean()
        for i in range(TEST_TASKS)
    ]
    return float(sum(right) / TEST_TASKS)


def cost(name: str, mode: str, shots: int, filters: int) -> Cost:
    """What the cell's meta-gradient costs, in a process of its own. It is the same for every store, and kept."""
    kept = BUILD / "accuracies" / f"costs-{shots}-shot-{filters}" / f"{name}-{mode}.json"
    if kept.exists():
        return Cost(*json.loads(kept.read_text()))
    model = {"filters": filters, **SETTINGS[name][1]}
    reptile = name == "reptile"
    queries, trained_on = (1, REPTILE_SHOTS) if reptile else (queries_of(shots), shots)
    found = cost_of(algorithm_section(name, mode), queries=queries, shots=trained_on, model=model)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


Cells = Mapping[tuple[str, str], tuple[Judged, Cost]]
"""By algorithm and mode."""


def table(cells: Cells, store: str, shots: int, tasks: int, filters: int, neighbour: float) -> str:
    """The cells as Markdown, a row an algorithm; what stands twice is of both modes, in their order."""
    lines = [
        f"# {store}: 5-way {shots}-shot, {tasks} training tasks each, conv4-{filters}, {TEST_TASKS} test tasks",
        "",
        f"1-nearest neighbour of pixels on these tasks: {100 * neighbour:.1f} %. "
        f"{5 * queries_of(shots)} queries in a pass; in brackets one at a time.",
        "",
        f"| algorithm | {' | '.join(MODES)} | above the neighbour | tasks/s, one core | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for name, _ in cells):
        found = [cells.get((name, mode)) for mode in MODES]
        there = [cell for cell in found if cell]
        gains = " / ".join(f"{100 * (cell.accuracy - neighbour):+.1f}" for cell, _ in there)
        speeds = " / ".join(f"{costs.tasks_per_second:.0f}" for _, costs in there)
        memory = " / ".join(f"{costs.mib:.0f}" for _, costs in there)
        accuracies = " | ".join(_percent(cell[0]) if cell else "" for cell in found)
        lines.append(f"| `{name}` | {accuracies} | {gains} | {speeds} | {memory} |")
    return "\n".join(lines) + "\n"


def _percent(cell: Judged) -> str:
    return f"{100 * cell.accuracy:.1f} +- {100 * cell.ci95:.1f} ({100 * cell.alone:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="omniglot")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=4800)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--only", default=",".join(SETTINGS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--judge-only", action="store_true")
    given = parser.parse_args()
    label = f"{given.store}-{given.shots}-shot"
    done = BUILD / "accuracies" / f"{label}-{given.tasks}-{given.filters}"
    done.mkdir(parents=True, exist_ok=True)
    wanted = [(name, mode) for name in given.only.split(",") for mode in given.modes.split(",")]
    missing = [cell for cell in wanted if not (done / f"{'-'.join(cell)}.json").exists()]
    with ProcessPoolExecutor(given.at_once, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(judge, *cell, given.store, given.shots, given.tasks, given.filters) for cell in missing]
        for finished in as_completed(runs):
            cell = finished.result()
            (done / f"{cell.name}-{cell.mode}.json").write_text(json.dumps(asdict(cell)))
            print(cell, flush=True)
    if given.judge_only:
        return
    cells = {
        cell: (
            Judged(**json.loads((done / f"{'-'.join(cell)}.json").read_text())),
            cost(*cell, given.shots, given.filters),
        )
        for cell in wanted
    }
    neighbour = pixel_neighbour(given.store, given.shots)
    text = table(cells, given.store, given.shots, given.tasks, given.filters, neighbour)
    (BUILD / f"accuracies-{label}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
