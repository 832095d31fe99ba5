"""Real nodes: one joins, one dies, one is told to go, one hangs. No bit changes, and the work moves away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ray
Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def story() -> Told:
    """What `tests.support.raylets` printed, by what was done."""
    root = Path(__file__).parents[2]
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.raylets"],
        env={**os.environ, **settings},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {part["what"]: part for part in parts}


def told(story: Told, what: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in story[what]["told"] if event["kind"] == kind]


def working(story: Told, what: str) -> list[dict[str, Any]]:
    """The lost workers that had started. Ray may put a new one on a node that it does not know to be gone yet."""
    return [event for event in told(story, what, "worker_lost") if event["pid"] is not None]


def workers_of(story: Told, node: str) -> set[str]:
    return {event["worker"] for event in told(story, "undisturbed", "worker_started") if event["node"] == node}


def names(events: list[dict[str, Any]]) -> set[str]:
    return {event["worker"] for event in events}


def test_no_bit_changes(story: Told) -> None:
    assert len(story) == 9 and all(part["equal"] for part in story.values())
    for calm in ("undisturbed", "six workers", "a is left", "without c"):
        assert not told(story, calm, "shard_reissued")


def test_workers_join_with_a_node(story: Told) -> None:
    assert {event["node"] for event in told(story, "undisturbed", "worker_started")} == {"a", "b"}
    joined = told(story, "c joins", "worker_started") + told(story, "six workers", "worker_started")
    assert [event["node"] for event in joined] == ["c", "c"]


def test_the_driver_may_be_busy_elsewhere(story: Told) -> None:
    """Starting a node takes the driver longer than the limit of an item; no worker is to blame."""
    assert not told(story, "c joins", "shard_reissued")


def test_a_node_dies(story: Told) -> None:
    calls = ("b dies", "a is told to go")  # a busy machine may see it in the next call
    assert set[str]().union(*(names(working(story, what)) for what in calls)) == workers_of(story, "b")
    assert any(told(story, what, "shard_reissued") for what in calls)


def test_a_node_is_told_to_go(story: Told) -> None:
    leaving = told(story, "a is told to go", "worker_leaving")
    assert [event["node"] for event in leaving] == ["a", "a"]
    assert names(leaving) == workers_of(story, "a")
    lost = working(story, "a is told to go") + working(story, "a is left")
    assert not names(lost) & names(leaving), "they finish what they have"


def test_a_node_hangs(story: Told) -> None:
    lost = working(story, "c hangs") + working(story, "c still hangs")
    started = told(story, "c joins", "worker_started") + told(story, "six workers", "worker_started")
    assert len(lost) == 2 and names(lost) == names(started)
    assert all("no answer for" in event["reason"] for event in lost)
    assert [event["node"] for event in told(story, "c hangs", "node_avoided")] == ["c"]
