"""What each algorithm costs with its own defaults: writes ``build/algorithm-costs.md``."""

from __future__ import annotations

import pytest

from metadist.config.presets import PRESETS
from tests.bench.cost import ROOT, WHAT, cost_of

QUERIES = 3


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_cost_of_each_algorithm() -> None:
    lines = [
        f"# Algorithms on {WHAT}, {QUERIES} queries a class",
        "",
        "| algorithm | tasks/s | peak MiB |",
        "|---|---|---|",
    ]
    for name in PRESETS:
        cost = cost_of({"name": name}, queries=QUERIES)
        assert cost.tasks_per_second > 0
        lines.append(f"| {name} | {cost.tasks_per_second:.1f} | {cost.mib:.0f} |")
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "algorithm-costs.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
