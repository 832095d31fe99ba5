"""What the inner steps cost: peak memory and tasks/s of the ways back, for 1 to 50 steps. The one law is that the
adjoint's memory does not grow with them but by the states that it keeps.

Writes ``build/inner-steps.md``. ``METADIST_BENCH_STEPS`` names other numbers of steps.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.cost import ROOT, TASKS, WHAT, cost_of

STEPS = tuple(int(word) for word in os.environ.get("METADIST_BENCH_STEPS", "1,5,10,20,50").split(","))
WAYS_BACK = {
    "unroll": {"gradient": "unroll"},
    "adjoint": {"gradient": "adjoint"},
    "adjoint, forward over reverse": {"gradient": "adjoint", "hessian": "forward"},
}
STATES_MIB = 0.43 * TASKS  # what the adjoint keeps of a step: the adapted leaves


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_memory_stays_flat_in_the_inner_steps() -> None:
    found = {
        (way, steps): cost_of({"name": "maml", "inner_steps": steps, "inner_lr": 0.1, **settings}, queries=1)
        for way, settings in WAYS_BACK.items()
        for steps in STEPS
    }
    lines = [
        f"# Inner steps: MAML on {WHAT}, 1 query a class",
        "",
        f"| way back | quantity | {' | '.join(f'K = {steps}' for steps in STEPS)} |",
        "|---|---|" + "---|" * len(STEPS),
    ]
    for way in WAYS_BACK:
        lines.append(f"| {way} | peak MiB | " + " | ".join(f"{found[way, k].mib:.0f}" for k in STEPS) + " |")
        lines.append(
            f"| {way} | tasks/s | " + " | ".join(f"{found[way, k].tasks_per_second:.1f}" for k in STEPS) + " |"
        )
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "inner-steps.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
    growth = {way: found[way, STEPS[-1]].mib - found[way, STEPS[1]].mib for way in WAYS_BACK}
    assert growth["adjoint"] < 2 * STATES_MIB * (STEPS[-1] - STEPS[1]), "the adjoint keeps more than the states"
    assert growth["adjoint"] < growth["unroll"] / 4
