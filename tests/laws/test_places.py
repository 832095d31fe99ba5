"""Law 1, worker count, and law 2, faults: where a shard runs, and how often, does not change a bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import metadist
import metadist.run
from metadist.config.fingerprint import numbers_of
from metadist.errors import MetadistError
from tests.laws.test_nonfinite import DROP
from tests.support.doomed import Doomed
from tests.support.quick import (
    IMAGE_RUN,
    SMALL_RUN,
    all_workers_at_the_start,
    happened,
    journalled,
    timeless,
    train_quickly,
)

pytestmark = pytest.mark.usefixtures("omniglot")

SHARES = {"cluster.cpus_per_worker": 0.5, "cluster.gpus_per_worker": 0}  # of the tests' Ray, whose GPUs are pretended
LONG = {"outer.num_steps": 50}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fomaml": {"algorithm.name": "fomaml", "outer.optimizer": "sgd", "outer.options": {"momentum": 0.9}},
    "reptile": {"algorithm.name": "reptile", "algorithm.inner_steps": 3},
    "protonet": {"algorithm": {"name": "protonet"}, "algorithm.normalisation": "transductive"},
    "maml-head-3": {"algorithm.adapt": ["head.*"], "algorithm.inner_steps": 3, "tasks.rotations": True},
    "meta-sgd": {"algorithm.name": "meta-sgd", "outer.groups": [{"match": ["inner.*"], "lr": 0.01}]},
    "maml++": {
        "algorithm": {"name": "maml++", "inner_steps": 3, "inner_lr": 0.1},
        "outer.schedule": {"name": "none"},  # a loop of one's own has none
    },
    "cavia": {"algorithm.name": "cavia", "algorithm.inner_steps": 2, "model.options": {"filters": 4, "context": 3}},
    "imaml": {"algorithm": {"name": "imaml", "inner_steps": 3}},
    "protomaml": {"algorithm": {"name": "protomaml", "inner_lr": 0.05}},
    "r2d2": {"algorithm": {"name": "r2d2"}},
    "mini-batches-adam": {
        "algorithm": {"name": "maml", "inner_steps": 3, "inner_lr": 0.01, "inner_batch_size": 2},
        "algorithm.inner_optimizer": {"name": "adam"},
    },
    "shapes": {"tasks.shapes": [{"ways": 3, "shots": 2}, {"queries": 2}, {"ways": 7}]},
    "maml-0": {"algorithm.inner_steps": 0, "outer.reduction": "sum", "engine.chunk_size": 1},
}


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory, omniglot: str) -> metadist.Run:
    """The reference: 50 steps in this process."""
    return trained(tmp_path_factory.mktemp("local"), LONG)


def trained(folder: Path, overrides: dict[str, Any], workers: int = 0, **options: Any) -> metadist.Run:
    return train_quickly(IMAGE_RUN, {**overrides, **(on_ray(workers) if workers else {})}, folder / "run", **options)


def on_ray(workers: int) -> dict[str, Any]:
    return {"cluster.backend": "ray", "cluster.num_workers": workers, **SHARES}


WORKERS = [pytest.param(number, marks=() if number == 3 else pytest.mark.laws) for number in (1, 2, 3, 7)]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("workers", WORKERS)
def test_the_number_of_workers_does_not_change_a_bit(workers: int, local_run: metadist.Run, tmp_path: Path) -> None:
    with all_workers_at_the_start():
        run = trained(tmp_path, LONG, workers)
    assert run.summary["params_sha256"] == local_run.summary["params_sha256"]
    assert timeless(run.run_dir) == timeless(local_run.run_dir)
    assert len({event["pid"] for event in happened(run.run_dir, "worker_started")}) == workers
    assert not happened(run.run_dir, "shard_reissued")
    assert len({event["canary"] for event in happened(run.run_dir, "worker_started")} - {None}) == 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_killed_workers_do_not_change_a_bit(local_run: metadist.Run, tmp_path: Path) -> None:
    """SIGKILL in mid-step: once in step 3, twice in step 7, and once in the last step."""
    doomed = ((3, 1), (7, 0), (7, 2), (49, 1))
    factory_of = metadist.run.factory_of

    def dooming(*arguments: Any) -> Any:
        return Doomed(factory_of(*arguments), str(tmp_path), doomed)

    with mock.patch("metadist.run.factory_of", dooming):
        run = trained(tmp_path, LONG, 2)
    assert all((tmp_path / f"{step}-{index}").exists() for step, index in doomed), "a worker was not hit"
    again = {(event["version"], event["index"]) for event in happened(run.run_dir, "shard_reissued")}
    assert set(doomed) <= again
    lost = [event["pid"] for event in happened(run.run_dir, "worker_lost")]
    assert len(lost) == len(doomed)
    assert run.summary["params_sha256"] == local_run.summary["params_sha256"]
    assert timeless(run.run_dir) == timeless(local_run.run_dir)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "meta-sgd" else pytest.mark.laws) for name in ALGORITHMS]
)
def test_every_algorithm_is_the_same_on_ray(name: str, tmp_path: Path) -> None:
    here = trained(tmp_path / "here", ALGORITHMS[name])
    there = trained(tmp_path / "there", ALGORITHMS[name], 2)
    assert there.summary["params_sha256"] == here.summary["params_sha256"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_run_does_not_go_on_where_the_bits_are_others(tmp_path: Path) -> None:
    """As on a machine of another kind: what the canary gave when the run began is known from its journal."""
    short = {"outer.num_steps": 2, "checkpoint.every_steps": 1, "cluster.max_restarts": 0}
    begun = trained(tmp_path, short, 1)
    journal = begun.run_dir / "journal.jsonl"
    (canary,) = {event["canary"] for event in happened(begun.run_dir, "worker_started")}
    journal.write_bytes(journal.read_bytes().replace(canary.encode(), b"0123456789abcdef"))
    shutil.rmtree(begun.run_dir / "checkpoints" / "000002")
    with pytest.raises(MetadistError, match="canary shard gave other bits") as caught:
        trained(tmp_path, short, 1, resume=True)
    assert caught.value.exit_code == 69


@pytest.mark.ray
@pytest.mark.laws
@pytest.mark.usefixtures("ray_session")
def test_dropped_tasks_are_the_same_ones_on_ray(tmp_path: Path) -> None:
    here = train_quickly(SMALL_RUN, DROP, tmp_path / "here")
    there = train_quickly(SMALL_RUN, {**DROP, **on_ray(3)}, tmp_path / "there")
    assert there.summary["params_sha256"] == here.summary["params_sha256"]
    assert timeless(there.run_dir) == timeless(here.run_dir)
    assert happened(there.run_dir, "tasks_dropped") == happened(here.run_dir, "tasks_dropped") != []


def loop_of_ones_own(overrides: dict[str, Any]) -> str:
    """The loop of ``metadist.loop``."""
    config = metadist.load_config(IMAGE_RUN, overrides)
    tasks = metadist.open_tasks(config)
    algorithm = metadist.parts_of(config, tasks).algorithm
    params = algorithm.init(config.seed)
    optimizer = torch.optim.Adam(metadist.leaves(params), lr=config.outer.lr, foreach=False)
    for step in range(config.outer.num_steps):
        size = config.outer.meta_batch_size
        direction, _ = metadist.meta_gradient(
            algorithm,
            params,
            tasks.batch(step, size),
            context=tasks.context(step, size),
            shard_size=config.outer.shard_size,
        )
        for leaf, slope in zip(metadist.leaves(params), metadist.leaves(direction), strict=True):
            leaf.grad = slope
        optimizer.step()
    return metadist.params_sha256(params)


def test_a_loop_of_ones_own_gives_the_same_bits(local_run: metadist.Run) -> None:
    assert loop_of_ones_own(LONG) == local_run.summary["params_sha256"]


@pytest.mark.parametrize("name", ["reptile", "protonet", "maml-head-3", "maml++", "mini-batches-adam"])
def test_a_loop_of_ones_own_with_other_algorithms(name: str, tmp_path: Path) -> None:
    default_shard = {**ALGORITHMS[name], "outer.shard_size": None}
    assert loop_of_ones_own(default_shard) == trained(tmp_path, default_shard).summary["params_sha256"]


def test_a_different_shard_size_is_another_run(local_run: metadist.Run, tmp_path: Path) -> None:
    """The promise is about places; the plan's own settings may change bits, and so are in the fingerprint."""
    other = metadist.load_config(IMAGE_RUN, {**LONG, "outer.shard_size": 3})
    assert numbers_of(other) != numbers_of(local_run.config)


def test_the_run_learned(local_run: metadist.Run) -> None:
    """Equal bits of runs that go nowhere would say little."""
    losses = [row["train/query_loss"] for row in journalled(local_run.run_dir, "metrics") if "train/query_loss" in row]
    assert len(losses) == LONG["outer.num_steps"]
    assert sum(losses[-10:]) < sum(losses[:10])
