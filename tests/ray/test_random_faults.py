"""Law 2, faults: SIGKILL, SIGSTOP and lack of memory, at random moments, up to three at once. Equal bits.

A run counts only if its events show a re-issued item. `make laws` does a hundred and writes the table.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Event, LocalGroup, RayGroup, RayOptions
from tests.ray.work import SHARED, UnluckyFactory, number_factory, pieces

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

NUM_ITEMS, ITEM_S, WORKERS = 18, 0.05, 3
KINDS = ("SIGKILL", "SIGSTOP", "memory")
OFTEN, SAMPLE, FULL = 3, 10, 100  # in every run of the tests; and with `make laws`
WARM = 1000  # the version of a first call that nothing disturbs
MOST_DRAWS = 3  # draws of a moment until a blow lands while something is under way


def storm(group: RayGroup, kind: str, rng: random.Random) -> threading.Thread:
    """Hit one to three workers at one random moment of the call that begins now."""
    victims = rng.sample(sorted(group.worker_pids().values()), rng.randint(1, WORKERS))
    moment = rng.uniform(0.0, NUM_ITEMS * ITEM_S / WORKERS)

    def blow() -> None:
        threading.Event().wait(moment)
        for pid in victims:
            os.kill(pid, getattr(signal, kind))

    thread = threading.Thread(target=blow)
    thread.start()
    return thread


@contextmanager
def group_for(kind: str, rng: random.Random, events: list[Event]) -> Iterator[RayGroup]:
    options = RayOptions(num_workers=WORKERS, max_restarts=1000, max_attempts=5, deadline_min_s=1.0, deadline_factor=10)
    memory = rng.randrange(NUM_ITEMS) if kind == "memory" else -1  # its mark needs a folder: not in the first call
    with RayGroup(UnluckyFactory(ITEM_S, memory), options, events.append) as group:
        group.wait_ready()
        group.reduce(WARM, SHARED, pieces(NUM_ITEMS))  # from here on it is known how long an item takes
        events.clear()
        yield group


def faulty_run(kind: str, seed: int, folder: Path) -> tuple[bool, float]:
    """One disturbed call: whether its bits are those of an undisturbed one, and how many seconds it took."""
    rng = random.Random(f"{kind}-{seed}")
    events: list[Event] = []
    with group_for(kind, rng, events) as group:
        for version in range(MOST_DRAWS):
            begun = time.perf_counter()
            blow = storm(group, kind, rng) if kind != "memory" else None
            found = group.reduce(version, SHARED, pieces(NUM_ITEMS, folder))
            wall = time.perf_counter() - begun
            if blow:
                blow.join()
            expected = LocalGroup(number_factory).reduce(version, SHARED, pieces(NUM_ITEMS))
            equal = found.vector.tobytes() == expected.vector.tobytes() and found.metrics == expected.metrics
            if not equal or any(event.kind == "shard_reissued" for event in events):
                return equal, wall
            group.wait_ready(WORKERS)
    raise AssertionError(f"{kind} {seed}: no blow landed while something was under way")


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed < OFTEN else pytest.mark.laws) for seed in range(SAMPLE)]
)
def test_a_fault_does_not_change_a_bit(seed: int, tmp_path: Path) -> None:
    equal, _ = faulty_run(KINDS[seed % len(KINDS)], seed, tmp_path)
    assert equal


@pytest.mark.laws
@pytest.mark.timeout(3600)
def test_a_hundred_faults(tmp_path: Path) -> None:
    """Writes ``build/random-faults.md``: fault, runs, equal bits, seconds lost (median, worst)."""
    undisturbed = NUM_ITEMS * ITEM_S / WORKERS
    rows = []
    for number, kind in enumerate(KINDS):
        runs = []
        for seed in range(number, FULL + 2, len(KINDS)):
            folder = tmp_path / f"{kind}-{seed}"
            folder.mkdir()
            runs.append(faulty_run(kind, 1000 + seed, folder))
        lost = sorted(wall - undisturbed for _, wall in runs)
        equal = sum(same for same, _ in runs)
        rows.append(f"| {kind} | {len(runs)} | {equal} | {statistics.median(lost):.2f} | {lost[-1]:.2f} |")
        assert equal == len(runs), rows[-1]
    table = "\n".join(["| fault | runs | bits equal | seconds lost, median | worst |", "|---|---|---|---|---|", *rows])
    out = Path(__file__).parents[2] / "build"
    out.mkdir(exist_ok=True)
    (out / "random-faults.md").write_text(table + "\n")
