"""What one algorithm costs on this machine: peak memory and tasks/s, in a process of its own.

``python -m tests.bench.cost '{"algorithm": {"name": "maml", "inner_steps": 5}, "queries": 1}'`` prints them; ``model``
(options of conv4) and ``shots`` may stand beside these.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TASKS = 4
REPEATS = 3
WHAT = f"conv4-64, 28x28, 5-way 1-shot, {TASKS} tasks at once, one thread"


class Cost(NamedTuple):
    """Peak MiB above what the process held before, and tasks/s (the fastest of some repeats)."""

    mib: float
    tasks_per_second: float


def cost_of(
    section: Mapping[str, Any], *, queries: int, shots: int = 1, model: Mapping[str, Any] | None = None
) -> Cost:
    """The cost of the meta-gradient of an ``algorithm`` section: 5-way tasks, a conv4 with ``model``'s options."""
    case = {"algorithm": dict(section), "queries": queries, "shots": shots, "model": dict(model or {})}
    command = [sys.executable, "-m", "tests.bench.cost", json.dumps(case)]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return Cost(*json.loads(answer.stdout.splitlines()[-1]))


def _measure(
    algorithm: Mapping[str, Any], queries: int, shots: int = 1, model: Mapping[str, Any] | None = None
) -> Cost:
    import torch

    from metadist import numerics
    from metadist.config.load import load_config
    from metadist.parts import build_parts
    from metadist.shard import batched
    from metadist.tasks import Batch, Context, Task, TaskSpec

    numerics.pin(1)
    spec = TaskSpec(kind="classes", input_shape=(1, 28, 28), outputs=5, shots=shots, queries=queries)
    context = {"context": 100} if algorithm["name"] == "cavia" else {}
    tree = {
        "tasks": {"path": "nowhere"},
        "model": {"name": "conv4", "options": {**context, **(model or {})}},
        "objective": {"name": "classification"},
        "algorithm": dict(algorithm),
    }
    built = build_parts(load_config(tree), spec)[2]
    draw = torch.Generator().manual_seed(0)

    def half(a_class: int) -> Batch:
        labels = torch.arange(5).repeat_interleave(a_class).expand(TASKS, -1).clone()
        return Batch(torch.rand((TASKS, 5 * a_class, 1, 28, 28), generator=draw), labels)

    task, meta = Task(half(shots), half(queries)), built.init(0)
    gradient, ctx = batched(built.meta_gradient), Context(torch.zeros(()), torch.arange(TASKS))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        gradient(meta, task, ctx)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Cost((peak - before) / 1024, TASKS / min(seconds))


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
