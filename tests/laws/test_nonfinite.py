"""Tasks that are not finite: named where they stop the run; where they are dropped, as if they had not been there."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metadist import load_config
from metadist.errors import DataError, NonFiniteGradient
from metadist.parameters import MetaParams, flatten, layout_of, unflatten
from metadist.replay import replay_shard
from metadist.shard import make_engine, make_shard_function, own_parts
from metadist.sources import build_source
from metadist.sums import Sums, dropped_keys
from metadist.tasks import Context, plan_step
from metadist.worker import assemble
from tests.support.quick import SMALL_RUN, happened, journalled, timeless, train_quickly

FRAGILE = {"model": {"factory": "tests.support.models:fragile", "options": {"limit": 4.9}}}
DROP = {**FRAGILE, "outer.on_nonfinite": "drop"}
SOUND = {"model": {"factory": "tests.support.models:fragile", "options": {"limit": 1e9}}}

T, P = 5, 7
KEYS = tuple(f"train/3/{index}" for index in range(T))
LAYOUT = layout_of(MetaParams({"w": torch.zeros(P)}, {}))
LOST = [lost for size in range(T) for lost in combinations(range(T), size)]


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn((T, P), generator=draw), torch.rand(T, generator=draw)


def summed(rows: torch.Tensor, losses: torch.Tensor, keys: tuple[str, ...], *, drop: bool = True) -> Any:
    sums = Sums(LAYOUT, "cpu", step=3, shard=1, drop=drop)
    if keys:
        sums.add(MetaParams({"w": rows}, {}), {"query_loss": (losses, torch.ones(len(losses)))}, keys=keys)
    return sums.partial()


@pytest.mark.parametrize("where", ["gradient", "loss", "both"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_dropped_task_leaves_the_sums_of_the_others(where: str, value: float) -> None:
    """Every subset of five tasks; bit for bit."""
    for lost in LOST:
        rows, losses = drawn()
        kept = [index for index in range(T) if index not in lost]
        expected = summed(rows[kept], losses[kept], tuple(KEYS[index] for index in kept))
        for index in lost:
            if where != "loss":
                rows[index, index] = value
            if where != "gradient":
                losses[index] = value
        found = summed(rows, losses, KEYS)
        assert dropped_keys(found.metrics) == tuple(KEYS[index] for index in lost)
        assert np.array_equal(found.vector, expected.vector) and found.count == len(kept)
        assert {name: found.metrics[name] for name in expected.metrics} == expected.metrics


def test_when_all_are_dropped_nothing_is_left() -> None:
    rows, losses = drawn()
    found = summed(rows * torch.nan, losses, KEYS)
    assert found.count == 0 and not found.vector.any() and dropped_keys(found.metrics) == KEYS


@pytest.mark.parametrize("lost", [(2,), (0, 4)])
def test_the_tasks_and_only_they_are_named(lost: tuple[int, ...]) -> None:
    rows, losses = drawn()
    losses[list(lost)] = torch.nan
    with pytest.raises(NonFiniteGradient) as raised:
        summed(rows, losses, KEYS, drop=False)
    assert raised.value.what == "query_loss" and raised.value.tasks == tuple(KEYS[index] for index in lost)
    rows[1, 0] = torch.inf
    with pytest.raises(NonFiniteGradient, match="the meta-gradient or query_loss") as raised:
        summed(rows, losses, KEYS, drop=False)
    assert raised.value.tasks == tuple(KEYS[index] for index in sorted({1, *lost}))


def test_parts_of_ones_own_are_named_as_a_possible_cause() -> None:
    assert own_parts(load_config({**SMALL_RUN, **SOUND})) == ("model.factory 'tests.support.models:fragile'",)
    error = NonFiniteGradient("query_loss", 3, 1, KEYS, ("objective.name 'mine:loss'",))
    assert str(error).endswith("It may also come from code of your own: objective.name 'mine:loss'")
    assert "code of your own" not in str(NonFiniteGradient("query_loss", 3, 1, KEYS))


@pytest.mark.parametrize("drop", [True, False])
def test_a_sum_that_overflows_has_no_single_culprit(drop: bool) -> None:
    _, losses = drawn()
    with pytest.raises(NonFiniteGradient, match="the sum of the meta-gradients") as raised:
        summed(torch.full((T, P), 2e38), losses, KEYS, drop=drop)
    assert raised.value.tasks == KEYS


@pytest.mark.parametrize("axis", ["vmap", "loop"])
@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.laws), 3, pytest.param(6, marks=pytest.mark.laws)])
def test_a_shard_without_a_task_is_the_sum_of_the_others(axis: str, chunk: int) -> None:
    """The gradients of the others come from a net that is the same but sound, computed at the same width."""
    how = {"outer.shard_size": 6, "engine.tasks_axis": axis, "engine.chunk_size": chunk}
    sound, fragile = load_config(SMALL_RUN, {**how, **SOUND}), load_config(SMALL_RUN, {**how, **DROP})
    source = build_source(fragile, None)
    parts, broken = assemble(sound, source), assemble(fragile, source)
    layout, flat = parts.layout, flatten(parts.algorithm.init(0))
    judge = (source, make_engine(broken.algorithm, broken.objective, fragile))
    run = make_shard_function(judge, [judge], layout, fragile, "cpu")
    engine = make_engine(parts.algorithm, parts.objective, sound)
    steps_hit = 0
    for step in range(12):
        (shard,) = plan_step(step, meta_batch_size=6, shard_size=6)
        found = run(step, flat, shard)
        lost = dropped_keys(found.metrics)
        sums = Sums(layout, "cpu")
        for start in range(0, 6, chunk):
            keys = shard.keys()[start : start + chunk]
            kept = [index for index, key in enumerate(keys) if key not in lost]
            context = Context(torch.zeros(()), torch.zeros(chunk, dtype=torch.int64))
            task = source.batch("train", step, start, start + chunk)
            direction, metrics = engine.gradient(unflatten(flat, layout), task, context)
            if kept:
                sums.add(
                    MetaParams({name: leaf[kept] for name, leaf in direction.model.items()}, {}),
                    {name: (value[kept], count[kept]) for name, (value, count) in metrics.items()},
                    keys=tuple(keys[index] for index in kept),
                )
        expected = sums.partial()
        assert np.array_equal(found.vector, expected.vector) and found.count == 6 - len(lost)
        steps_hit += bool(lost)
    assert steps_hit >= 3, "the data never hit the net's weak spot, so nothing was tested"


def test_a_run_that_drops_goes_on_and_says_which(tmp_path: Path) -> None:
    run = train_quickly(SMALL_RUN, DROP, tmp_path / "run")
    events = happened(run.run_dir, "tasks_dropped")
    rows = [row for row in journalled(run.run_dir, "metrics") if "train/dropped_tasks" in row]
    assert len(rows) == 10 and events
    counts = {event["step"] + 1: len(event["keys"]) for event in events}
    assert {row["step"]: row["train/dropped_tasks"] for row in rows} == {
        step: counts.get(step, 0.0) for step in range(1, 11)
    }
    assert all(key.startswith(f"train/{event['step']}/") for event in events for key in event["keys"])
    assert all(np.isfinite(row["train/query_loss"]) for row in rows)
    first = events[0]
    shard = int(first["keys"][0].split("/")[-1]) // 2
    replayed = replay_shard(run.run_dir, step=first["step"], shard=shard, on_message=lambda message: None)
    assert set(replayed["dropped"]) <= set(first["keys"]) and replayed["dropped"]


def test_where_nothing_is_dropped_the_bits_are_those_of_a_run_that_would_stop(tmp_path: Path) -> None:
    stop = train_quickly(SMALL_RUN, {}, tmp_path / "stop")
    drop = train_quickly(SMALL_RUN, {"outer.on_nonfinite": "drop"}, tmp_path / "drop")
    assert stop.summary["params_sha256"] == drop.summary["params_sha256"]
    rows = timeless(drop.run_dir)
    assert {row.pop("train/dropped_tasks", 0.0) for row in rows} == {0.0}
    assert rows == timeless(stop.run_dir)


def test_a_step_without_any_task_stops_all_the_same(tmp_path: Path) -> None:
    nothing = {"model": {"factory": "tests.support.models:fragile", "options": {"limit": 1.0}}}
    with pytest.raises(
        NonFiniteGradient, match="every task's gradient or loss is not finite at step 0, tasks"
    ) as found:
        train_quickly(SMALL_RUN, {**nothing, "outer.on_nonfinite": "drop"}, tmp_path / "run")
    assert found.value.tasks == tuple(f"train/0/{index}" for index in range(6))


def test_by_default_such_a_task_stops_the_run_and_is_named(tmp_path: Path) -> None:
    dropping = train_quickly(SMALL_RUN, DROP, tmp_path / "drop")
    first = happened(dropping.run_dir, "tasks_dropped")[0]
    shard = int(first["keys"][0].split("/")[-1]) // 2
    named = ", ".join(key for key in first["keys"] if int(key.split("/")[-1]) // 2 == shard)
    with pytest.raises(DataError, match=f"step {first['step']}, shard {shard}, tasks {named};"):
        train_quickly(SMALL_RUN, FRAGILE, tmp_path / "stop")
