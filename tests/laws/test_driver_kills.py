"""Law 3, resume: whenever the driver is killed, also in the middle of writing, `--resume` gives the same bits.

Each resume must be from a step that was done before the kill. `make laws` does two hundred runs, some with up to
three kills, and writes the table.
"""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from metadist.tracking import JOURNAL_NAME
from tests.support.driver_kills import KINDS, SETTINGS, Killed, Life, Order, killed_run, live

LOCAL, ON_RAY = 156, 44  # runs of `make laws`
ANY_INSTANT = "at any instant"
# In every run of the tests on Ray, below; in test_disk_faults.py; in test_resume.py. The other kind here.
ELSEWHERE = (ANY_INSTANT, "at any call", "between steps")
SAMPLE = [
    pytest.param(kind, number, marks=pytest.mark.laws if number >= len(KINDS) or kind in ELSEWHERE else ())
    for number, kind in enumerate((*KINDS, *KINDS[:2]))
]
LOCALLY: dict[str, object] = {"cluster.backend": "local"}


@pytest.fixture(scope="module")
def on_ray() -> Iterator[dict[str, object]]:
    """A Ray that all drivers join, and the settings for it."""
    with mock.patch.dict(os.environ, {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}):
        os.environ.pop("RAY_ADDRESS", None)
        import ray

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own: sockets and processes that it leaves to the collector
            context = ray.init(
                address="local",
                num_cpus=8,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=150 * 2**20,
            )
        yield {"cluster.backend": "ray", "cluster.address": context.address_info["gcs_address"]}
        ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, int]:
    """A life that nobody ended, and how many bytes its journal has."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    life = live({**SETTINGS, **LOCALLY}, run_dir, Order())
    return life, (run_dir / JOURNAL_NAME).stat().st_size


@pytest.mark.parametrize(("kind", "seed"), SAMPLE)
def test_a_killed_driver_does_not_change_a_bit(
    kind: str, seed: int, undisturbed: tuple[Life, int], tmp_path: Path
) -> None:
    assert killed_run(kind, seed, LOCALLY, tmp_path, *undisturbed).equal


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "seed"), [pytest.param("in a save", 2, marks=pytest.mark.laws), (ANY_INSTANT, 1)])
def test_a_killed_driver_on_ray(
    kind: str, seed: int, on_ray: dict[str, object], undisturbed: tuple[Life, int], tmp_path: Path
) -> None:
    where = {**on_ray, "cluster.num_workers": 1}
    assert killed_run(kind, seed, where, tmp_path, *undisturbed).equal


@pytest.mark.ray
@pytest.mark.laws
@pytest.mark.timeout(4 * 3600)
def test_two_hundred_killed_runs(on_ray: dict[str, object], undisturbed: tuple[Life, int], tmp_path: Path) -> None:
    """Writes ``build/driver-kills.md`` as it goes on; two workers on Ray."""
    out = Path(__file__).parents[2] / "build" / "driver-kills.md"
    out.parent.mkdir(exist_ok=True)
    found: dict[tuple[str, str], list[Killed]] = {}
    for place, where, runs in (("local", LOCALLY, LOCAL), ("ray", {**on_ray, "cluster.num_workers": 2}, ON_RAY)):
        for seed in range(runs):
            kind = KINDS[seed % len(KINDS)]
            run = killed_run(kind, 1000 + seed, where, tmp_path, *undisturbed)
            found.setdefault((place, kind), []).append(run)
            out.write_text(table(found))
            assert run.equal, (place, kind, seed, run)


def table(found: dict[tuple[str, str], list[Killed]]) -> str:
    """By place and kind of kill; then every kill."""
    rows = [
        "| where | kill | runs | kills | bits equal | steps redone, median | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for (place, kind), runs in found.items():
        redone = [done - resumed_from for run in runs for done, resumed_from in run.kills]
        equal = sum(run.equal for run in runs)
        middle = statistics.median(redone)
        rows.append(f"| {place} | {kind} | {len(runs)} | {len(redone)} | {equal} | {middle:g} | {max(redone)} |")
    total = sum(len(runs) for runs in found.values())
    equal = sum(run.equal for runs in found.values() for run in runs)
    rows += ["", f"{total} runs, {equal} with equal bits. Each kill as (steps done) -> (resumed from):", ""]
    for (place, kind), runs in found.items():
        kills = "; ".join(", ".join(f"{done} -> {resumed}" for done, resumed in run.kills) for run in runs)
        rows.append(f"- {place}, {kind}: {kills}")
    return "\n".join(rows) + "\n"
