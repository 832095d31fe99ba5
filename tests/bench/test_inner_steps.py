"""What the inner steps cost: peak memory and tasks/s of the two ways back, for 1 to 50 steps. No law but that the
adjoint's memory does not grow with them.

Each cell is a process of its own (its peak resident memory, less what it held before). Writes
``build/inner-steps.md``. ``METADIST_BENCH_STEPS`` names other numbers of steps.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = tuple(int(word) for word in os.environ.get("METADIST_BENCH_STEPS", "1,5,10,20,50").split(","))
WAYS_BACK = {
    "unroll": {"gradient": "unroll"},
    "adjoint": {"gradient": "adjoint"},
    "adjoint, forward over reverse": {"gradient": "adjoint", "hessian": "forward"},
}
TASKS = 4
REPEATS = 3
STATES_MB = 0.45 * TASKS  # what the adjoint keeps a step: the adapted leaves


def measure(way: str, steps: int) -> dict[str, float]:
    """Peak MiB above the start, and tasks/s (fastest of some), of `TASKS` 5-way 1-shot tasks on conv4-64."""
    import torch

    from metadist import numerics
    from metadist.parts import build_parts
    from metadist.settings import load_config
    from metadist.shard import batched
    from metadist.tasks import Batch, Context, Task, TaskSpec

    numerics.pin(1)
    spec = TaskSpec(kind="classes", input_shape=(1, 28, 28), outputs=5, shots=1, queries=1)
    config = load_config(
        {
            "tasks": {"path": "nowhere"},
            "model": {"name": "conv4"},
            "objective": {"name": "classification"},
            "algorithm": {"name": "maml", "inner_steps": steps, "inner_lr": 0.1, **WAYS_BACK[way]},
        }
    )
    algorithm = build_parts(config, spec)[2]
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(5).expand(TASKS, -1).clone()
    task = Task(*(Batch(torch.rand((TASKS, 5, 1, 28, 28), generator=draw), labels) for _ in range(2)))
    meta, ctx = algorithm.init(0), Context(torch.zeros(()), torch.arange(TASKS))
    gradient = batched(algorithm.meta_gradient)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        gradient(meta, task, ctx)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (peak - before) / 1024, "tasks_per_second": TASKS / min(seconds)}


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_memory_stays_flat_in_the_inner_steps() -> None:
    found: dict[tuple[str, int], dict[str, float]] = {}
    for way in WAYS_BACK:
        for steps in STEPS:
            command = [sys.executable, "-m", "tests.bench.test_inner_steps", way, str(steps)]
            answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found[way, steps] = json.loads(answer.stdout.splitlines()[-1])
    lines = [
        f"# Inner steps: MAML on conv4-64, 28x28, 5-way 1-shot, 1 query a class, {TASKS} tasks at once, one thread",
        "",
        f"| way back | quantity | {' | '.join(f'K = {steps}' for steps in STEPS)} |",
        "|---|---|" + "---|" * len(STEPS),
    ]
    for way in WAYS_BACK:
        for name, digits in (("mib", 0), ("tasks_per_second", 1)):
            row = " | ".join(f"{found[way, steps][name]:.{digits}f}" for steps in STEPS)
            lines.append(f"| {way} | {'peak MiB' if name == 'mib' else 'tasks/s'} | {row} |")
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "inner-steps.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
    few, many = STEPS[1], STEPS[-1]
    growth = {way: found[way, many]["mib"] - found[way, few]["mib"] for way in WAYS_BACK}
    assert growth["adjoint"] < 2 * STATES_MB * (many - few), "the adjoint keeps more than the states"
    assert growth["adjoint"] < growth["unroll"] / 4


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
