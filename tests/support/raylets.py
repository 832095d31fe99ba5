"""A run through the life of a cluster: nodes join, are told to go, die and hang, each in the middle of a call.

A program of its own, since a process can join one Ray only. Prints one JSON object a line: what was done, whether
the bits are those of an undisturbed call, and what the group told meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster

from cluster import Canary, Event, RayGroup, RayOptions
from tests.ray.work import SHARED, UnluckyFactory, numbers, pieces
from tests.support.processes import descendants

ITEMS = 24
SOON = {f"health_check_{name}": value for name, value in
        {"initial_delay_ms": 1000, "period_ms": 500, "failure_threshold": 3, "timeout_ms": 500}.items()}  # fmt: skip
OPTIONS = RayOptions(
    num_workers=3, max_workers=6, deadline_factor=20, deadline_min_s=1.0, warmup_timeout_s=60, max_restarts=30
)


def add(cluster: Cluster) -> Any:
    """A node with room for two workers."""
    return cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)


def raylet(node: Any) -> int:
    """Its process id."""
    return int(node.all_processes["raylet"][0].process.pid)


def signal_all(node: Any, number: signal.Signals) -> None:
    """Sends a signal to all of a node."""
    for pid in descendants(raylet(node)):
        os.kill(pid, number)


def drain(cluster: Cluster, node: Any) -> None:
    """What a spot notice does."""
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address, "--node-id",
         node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
         "--deadline-remaining-seconds", "60"],
        check=True, capture_output=True,
    )  # fmt: skip


def main() -> None:
    """The whole story; every part is one call, disturbed after its first result."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 100 * 2**20,
            "_system_config": SOON,
        },
    )
    nodes = {name: add(cluster) for name in "ab"}
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    names = {nodes[name].node_id: name for name in nodes}
    events, version = list[Event](), 0

    def told() -> list[dict[str, Any]]:
        taken = [{"kind": event.kind, **event.detail} for event in events]
        events.clear()
        return [{**event, "node": names.get(event["node"], "?")} if "node" in event else event for event in taken]

    def call(what: str, disturb: Callable[[], None]) -> None:
        nonlocal version
        version += 1
        items = pieces(ITEMS)
        results = []
        for index, result in enumerate(group.map_ordered(version, SHARED, items)):
            results.append(result.vector.tobytes())
            if index == 0:
                disturb()
        equal = results == [numbers(version, SHARED, item).vector.tobytes() for item in items]
        print(json.dumps({"what": what, "equal": equal, "told": told()}), flush=True)

    def join(name: str) -> None:
        nodes[name] = add(cluster)
        names[nodes[name].node_id] = name

    canary = Canary(version=0, shared=SHARED, item=pieces(1)[0])
    with RayGroup(UnluckyFactory(0.03), OPTIONS, events.append, canary) as group:
        group.wait_ready(4)
        call("undisturbed", lambda: None)
        call("c joins", lambda: join("c"))
        group.wait_ready(6)
        call("six workers", lambda: None)
        call("b dies", lambda: os.kill(raylet(nodes["b"]), signal.SIGKILL))
        join("d")
        group.wait_ready(6)
        call("a is told to go", lambda: drain(cluster, nodes["a"]))
        call("a is left", lambda: None)
        call("c hangs", lambda: signal_all(nodes["c"], signal.SIGSTOP))
        call("c still hangs", lambda: None)
        call("without c", lambda: None)
    signal_all(nodes["c"], signal.SIGKILL)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
