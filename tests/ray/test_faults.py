"""Workers that are killed, hang at the start or cannot be had: equal bits, or an error that says why."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster import (
    Event,
    GroupStartTimeout,
    RayGroup,
    RayOptions,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
)
from tests.ray.work import (
    SHARED,
    BrokenLater,
    HoldFactory,
    RaiseFactory,
    SuicideFactory,
    context_factory,
    expected_bits,
    number_factory,
    pieces,
    told,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

LIMIT_S = 30.0


class WhenHeld:
    """Acts when an item of a ``HoldFactory`` has begun; the items' pipes are made here."""

    def __init__(self, folder: Path, index: int, act: Callable[[int], None]) -> None:
        self.pid = 0
        self._pipe = folder / f"begun-{index}"
        self._act = act
        os.mkfifo(self._pipe)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.pid = int(self._pipe.read_text())  # waits for the writer
        self._act(self.pid)

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the item was never begun"


def await_death(pid: int) -> None:
    """Waits for the end of a process that need not be a child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], LIMIT_S)[0], f"process {pid} is still there"
    finally:
        os.close(handle)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_sigkill_in_mid_step(num_workers: int, tmp_path: Path) -> None:
    events: list[Event] = []
    with RayGroup(HoldFactory((2,)), RayOptions(num_workers=num_workers), events.append) as group:
        killer = WhenHeld(tmp_path, 2, kill)
        found = group.reduce(5, SHARED, pieces(8, tmp_path))
        killer.join()
        assert found.vector.tobytes() == expected_bits(5, 8)
        (lost,) = told(events, "worker_lost")
        assert lost["pid"] == killer.pid and lost["version"] == 5 and "Actor" in str(lost["reason"])
        reissued = {event["index"]: event for event in told(events, "shard_reissued")}
        assert reissued[2]["version"] == 5 and reissued[2]["attempt"] == 2
        assert reissued[2]["worker"] == lost["worker"] and reissued[2]["reason"] == lost["reason"]
        group.wait_ready(num_workers)  # the lost one is replaced, under a new id
        assert f"{lost['worker']}.1" in group.worker_pids()
        assert killer.pid not in group.worker_pids().values()
        assert group.reduce(6, SHARED, pieces(8)).vector.tobytes() == expected_bits(6, 8)


def test_two_kills_in_one_step(tmp_path: Path) -> None:
    events: list[Event] = []
    with RayGroup(HoldFactory((0, 3)), RayOptions(num_workers=2), events.append) as group:
        killers = [WhenHeld(tmp_path, index, kill) for index in (0, 3)]
        found = group.reduce(5, SHARED, pieces(8, tmp_path))
        for killer in killers:
            killer.join()
    assert found.vector.tobytes() == expected_bits(5, 8)
    assert {lost["pid"] for lost in told(events, "worker_lost")} == {killer.pid for killer in killers}
    assert {0, 3} <= {event["index"] for event in told(events, "shard_reissued")}


def test_workers_killed_between_two_calls() -> None:
    """Nobody was running anything: whatever was given to them must not be blamed."""
    events: list[Event] = []
    with RayGroup(number_factory, RayOptions(num_workers=2, max_attempts=2), events.append) as group:
        group.wait_ready()
        pids = group.worker_pids()
        assert sorted(pids) == ["w0", "w1"]
        for pid in pids.values():
            kill(pid)
            await_death(pid)
        assert group.reduce(5, SHARED, pieces(8)).vector.tobytes() == expected_bits(5, 8)
    assert len(told(events, "worker_lost")) == 2


def test_an_item_that_kills_its_workers_is_poisoned(tmp_path: Path) -> None:
    events: list[Event] = []
    # More deaths than attempts: a result that was on its way when its worker died counts against the item before.
    with RayGroup(SuicideFactory((1,), times=6), RayOptions(num_workers=2), events.append) as group:
        with pytest.raises(ShardPoisoned, match=r"version 4, item 1 \(piece 1 of train\)") as caught:
            group.reduce(4, SHARED, pieces(4, tmp_path))
        assert (caught.value.index, caught.value.attempts) == (1, 3)
        assert 3 <= len(told(events, "worker_lost")) <= 6
        reasons = caught.value.reasons
        assert len(reasons) == 3 and len({reason.split(",")[0] for reason in reasons}) == 3, "same worker"


def test_a_used_up_restart_budget(tmp_path: Path) -> None:
    events: list[Event] = []
    options = RayOptions(num_workers=2, max_restarts=0)
    with RayGroup(SuicideFactory((0, 3)), options, events.append) as group:
        group.wait_ready()
        with pytest.raises(WorkersLost, match=r"0 workers are left of at least 1 .* 0 restarts in 600 s"):
            group.reduce(4, SHARED, pieces(4, tmp_path))
        assert len(told(events, "worker_not_replaced")) == 2
        with pytest.raises(WorkersLost):
            group.reduce(5, SHARED, pieces(4, tmp_path))


def test_the_rest_go_on_when_one_is_not_replaced(tmp_path: Path) -> None:
    with RayGroup(SuicideFactory((0,)), RayOptions(num_workers=2, max_restarts=0)) as group:
        group.wait_ready()
        assert group.reduce(5, SHARED, pieces(6, tmp_path)).vector.tobytes() == expected_bits(5, 6)
        assert len(group.worker_pids()) == 1


def test_a_result_that_does_not_pickle() -> None:
    with RayGroup(RaiseFactory(1, "result"), RayOptions(num_workers=1)) as group:
        with pytest.raises(ShardFailed, match="item 1") as caught:
            list(group.map_ordered(0, SHARED, pieces(3)))
        assert caught.value.error_type == "TypeError"


def test_too_few_workers_in_time() -> None:
    options = RayOptions(num_workers=2, cpus_per_worker=5, warmup_timeout_s=0.5)
    with RayGroup(number_factory, options) as group:
        with pytest.raises(GroupStartTimeout) as caught:
            group.reduce(0, SHARED, pieces(2))
        assert (caught.value.ready, caught.value.needed) == (0, 2)
        assert "2 workers x 5 CPU" in str(caught.value) and "4 CPU (4 free)" in str(caught.value)


def test_work_starts_with_the_first_worker_and_fewer_are_accepted_if_so_said() -> None:
    events: list[Event] = []
    options = RayOptions(num_workers=2, cpus_per_worker=3, warmup_timeout_s=20, min_workers=1)
    with RayGroup(number_factory, options, events.append) as group:
        assert group.reduce(5, SHARED, pieces(4)).vector.tobytes() == expected_bits(5, 4)
        assert not told(events, "workers_missing")
        group.wait_ready()  # until the time is over
        (missing,) = told(events, "workers_missing")
        assert missing["ready"] == 1 and missing["asked"] == "2 workers x 3 CPU"
        assert group.reduce(6, SHARED, pieces(4)).vector.tobytes() == expected_bits(6, 4)


def test_an_interrupt_leaves_a_group_that_closes_and_no_actor(tmp_path: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with RayGroup(HoldFactory((0,)), RayOptions(num_workers=2)) as group:
        group.wait_ready()
        pids = list(group.worker_pids().values())
        WhenHeld(tmp_path, 0, lambda pid: signal.pthread_kill(main, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            group.reduce(0, SHARED, pieces(4, tmp_path))
    signal.signal(signal.SIGINT, before)
    for pid in pids:
        await_death(pid)


def test_what_was_dropped_does_not_disturb_the_next_call(tmp_path: Path) -> None:
    """The first call is given up while its item 0 is held; the next one does not wait for that worker."""
    held = threading.Event()
    with RayGroup(HoldFactory((1,)), RayOptions(num_workers=2)) as group:
        group.wait_ready()
        watcher = WhenHeld(tmp_path, 1, lambda pid: held.set())
        results = group.map_ordered(5, SHARED, pieces(3, tmp_path))
        next(results)
        assert held.wait(LIMIT_S)
        results.close()  # type: ignore[attr-defined]
        killer = threading.Thread(target=kill, args=(watcher.pid,))  # it would hold its worker for ever
        killer.start()
        assert group.reduce(5, SHARED, pieces(8)).vector.tobytes() == expected_bits(5, 8)
        killer.join()


def test_workers_see_their_environment_and_accelerators() -> None:
    options = RayOptions(num_workers=2, gpus_per_worker=1, env_vars={"CLUSTER_TEST_VALUE": "seven"})
    with RayGroup(context_factory, options) as group:
        group.wait_ready()
        found = list(group.map_ordered(0, np.zeros(3, np.float32), pieces(4)))
    assert {at_work.accelerator_ids for _, at_work, _, _ in found} == {("0",), ("1",)}
    assert {(at_work.worker, at_work.slot) for _, at_work, _, _ in found} == {("w0", 0), ("w1", 1)}
    for at_start, at_work, environment, writeable in found:
        assert at_start == at_work and at_work.backend == "ray"
        assert environment == "seven" and writeable is False


def test_a_worker_that_cannot_start_where_others_have_is_left_out(tmp_path: Path) -> None:
    """A node without the store joins a run that goes well: the run goes on without it."""
    events: list[Event] = []
    with RayGroup(BrokenLater(tmp_path), RayOptions(num_workers=2), events.append) as group:
        group.wait_ready()
        (tmp_path / "broken").touch()
        pid = told(events, "worker_started")[0]["pid"]
        kill(pid)
        await_death(pid)
        limit, version = time.monotonic() + LIMIT_S, 0
        while not any("no store on this node" in lost["reason"] for lost in told(events, "worker_lost")):
            assert time.monotonic() < limit, events
            version += 1
            assert group.reduce(version, SHARED, pieces(4)).vector.tobytes() == expected_bits(version, 4)
