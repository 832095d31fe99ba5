"""One command adapts to 100,000 groups: rows a second and peak memory, with support rows and with saved states.

Writes ``build/many-groups.md``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metadist.config.load import load_config
from metadist.registry import build_bundle
from tasks_store.generators.customers import INPUTS, NOISE, population
from tests.support.quick import train_quickly

ROOT = Path(__file__).parents[2]
GROUPS = 100_000
HALVES = {"support": (0, 21), "query": (1, 4)}  # rows of a group, from and below
PROGRAM = "import resource, sys; from metadist.cli import app; app(sys.argv[1:], standalone_mode=False); " + (
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)


def write_people(folder: Path) -> None:
    """Rows of customers in mixed order."""
    draw, known = np.random.default_rng(9), population()
    weights = draw.multivariate_normal(known.mean, known.covariance, GROUPS)
    for half, bounds in HALVES.items():
        group = np.repeat(np.arange(GROUPS), draw.integers(*bounds, GROUPS))
        x = draw.normal(size=(len(group), INPUTS)).astype(np.float32)
        y = (np.c_[x, np.ones(len(group))] * weights[group]).sum(1) + NOISE * draw.normal(size=len(group))
        order = draw.permutation(len(group))
        columns = {
            "who": pa.array([f"customer {number}" for number in group[order]]),
            "x": pa.FixedSizeListArray.from_arrays(pa.array(x[order].reshape(-1)), INPUTS),
            "y": pa.array(y[order].astype(np.float32)),
        }
        pq.write_table(pa.table(columns), folder / f"{half}.parquet")


@pytest.mark.bench
def test_a_hundred_thousand_groups(customers: str, tmp_path: Path) -> None:
    recipe = load_config("customers", {"outer.num_steps": 400, "evaluation.num_tasks": 5})
    run = train_quickly(recipe, {}, tmp_path / "run")  # type: ignore[arg-type]
    bundle = str(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3).folder)
    write_people(tmp_path)
    lines = [
        "| command | groups | support rows | query rows | query rows a second | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    common = ["--query", "query.parquet", "--out", "out.parquet", "--group", "who", "--json"]
    for name, extra in (
        ("adapt --support --save-states", ["--support", "support.parquet", "--save-states", "states.parquet"]),
        ("adapt --states", ["--states", "states.parquet"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "adapt", bundle, *common, *extra],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        printed, peak = done.stdout.splitlines()
        found = json.loads(printed)
        rate = found["queries"] / found["seconds"]
        counts = [found["groups"], found["support"] or 0, found["queries"]]
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {rate:,.0f} | {peak} |")
        assert found["groups"] == GROUPS
    text = "\n".join(["# Adapting to many groups", "", *lines, ""])
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "many-groups.md").write_text(text)
    print(text)
