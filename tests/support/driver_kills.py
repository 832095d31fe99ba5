"""Runs whose driver is killed, again and again, each life in a process of its own, until one of them finishes.

Lives are forked from a server that has imported everything and runs no thread, so that a start costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

from metadist import Observer
from metadist.tracking import JOURNAL_NAME, read_events
from metadist.tracking.state import MirrorRun, save_run
from metadist.trainer import Trainer
from tests.support.disk import Disk, Fault
from tests.support.quick import SMALL_RUN, train_quickly

KINDS = ("in a save", "at any call", "between steps", "at any instant")
SETTINGS: dict[str, Any] = {
    "outer.num_steps": 12,
    "outer.schedule": {"name": "cosine"},
    "evaluation": {"every_steps": 4, "num_tasks": 4},
    "checkpoint": {"every_steps": 3, "keep": 2},
}
PRELOADED = ["pytest", "ray", "torch._dynamo", "metadist.run", "cluster.driver", "tests.support.driver_kills"]
POLL_S = 0.0005  # between two looks at the journal
MOST_DRAWS = 20  # of a moment, until one lies before the end


@dataclass(frozen=True, slots=True)
class Order:
    """What is to happen to one life; nothing by default.

    Attributes:
        fault: SIGKILL in a file-system call.
        only_saves: The fault counts the calls of `Trainer.save` alone.
        pause_at: It waits after this step, to be killed.
        journal_bytes: It is killed once the journal is this long.
    """

    fault: Fault | None = None
    only_saves: bool = False
    pause_at: int = -1
    journal_bytes: int = -1


@dataclass(slots=True)
class Life:
    """What one driver did.

    Attributes:
        resumed_from: Finished steps that it began with; None where it died before it knew.
        done: Finished steps when it died, by the journal.
        summary: Of one that finished.
        calls, save_calls: File-system calls of one that finished, all and in saves.
    """

    resumed_from: int | None = None
    done: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    save_calls: list[str] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        return not self.summary


def drive(settings: Mapping[str, Any], run_dir: Path, order: Order, parent: Connection) -> None:
    """One life: train or resume, and tell the parent. Everything is as in `metadist train --resume` but MLflow."""
    run_dir.mkdir(exist_ok=True)
    if not (run_dir / "mlflow.json").exists():  # as if it were mirrored: resuming then has more to keep
        save_run(run_dir, MirrorRun(uri="none", experiment="none", run_name="none", token="none"))
    everything = Disk(None if order.only_saves else order.fault)
    saves = Disk(order.fault if order.only_saves else None)
    save = Trainer.save

    def watched_save(trainer: Trainer, step: int) -> None:
        with saves.armed():
            save(trainer, step)

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == order.pause_at:
            parent.send(("paused", step))
            signal.pause()

    def on_message(text: str) -> None:
        if found := re.search(r"^resuming .* from step (\d+)$|^starting afresh", text):
            parent.send(("resumed_from", int(found[1] or 0)))

    with everything.armed(), mock.patch.object(Trainer, "save", watched_save):
        run = train_quickly(
            SMALL_RUN, settings, run_dir, resume=True, observer=Observer(on_step=on_step, on_message=on_message)
        )
    parent.send(("calls", everything.calls))
    parent.send(("save_calls", saves.calls))
    parent.send(("summary", run.summary))


def live(settings: Mapping[str, Any], run_dir: Path, order: Order) -> Life:
    """Start a driver, deal the blow that was ordered from outside, and wait for its end."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    ours, theirs = server.Pipe(duplex=False)
    process = server.Process(target=drive, args=(settings, run_dir, order, theirs))
    process.start()
    theirs.close()
    life, journal = Life(), run_dir / JOURNAL_NAME
    try:
        while process.exitcode is None or ours.poll():
            if ours in wait([ours, process.sentinel], timeout=POLL_S if order.journal_bytes >= 0 else None):
                try:
                    name, value = ours.recv()
                except EOFError:
                    process.join()
                    break
                if name == "paused":
                    os.kill(process.pid or 0, signal.SIGKILL)
                else:
                    setattr(life, name, value)
            if 0 <= order.journal_bytes <= (journal.stat().st_size if journal.exists() else -1):
                process.kill()
    finally:
        process.kill()
        process.join()
        ours.close()
    if life.was_killed and process.exitcode != -signal.SIGKILL:
        raise AssertionError(f"{run_dir}: a driver ended with exit code {process.exitcode}, not by a kill")
    if journal.exists():
        steps = [event.step or 0 for event in read_events(run_dir) if event.kind == "metrics"]
        life.done = max(steps, default=0)
    return life


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """A run that was killed at least once, and finished.

    Attributes:
        kind: How its drivers died.
        equal: Whether it has the bits of the undisturbed run.
        kills: (steps done at the kill, step that was resumed from), one a kill.
    """

    kind: str
    equal: bool
    kills: list[tuple[int, int]]


def draw(kind: str, rng: random.Random, reference: Life, journal_bytes: int) -> Order:
    """A random moment of this kind, uniform over an undisturbed life."""
    if kind in ("in a save", "at any call"):
        calls = reference.save_calls if kind == "in a save" else reference.calls
        fault = Fault(at=rng.randint(1, len(calls)), kind="SIGKILL", half=rng.random() < 0.5)
        return Order(fault=fault, only_saves=kind == "in a save")
    if kind == "between steps":
        return Order(pause_at=rng.randint(1, SETTINGS["outer.num_steps"] - 1))
    return Order(journal_bytes=rng.randint(0, journal_bytes))


def killed_run(
    kind: str, seed: int, where: Mapping[str, Any], folder: Path, reference: Life, journal_bytes: int
) -> Killed:
    """Kill a run's drivers, one to three of them, until the run is done without a hand on it."""
    rng = random.Random(f"{kind}-{seed}")
    settings = {**SETTINGS, **where}
    wanted = rng.choice((1, 1, 1, 2, 3))
    for attempt in range(MOST_DRAWS):
        run_dir = folder / f"{kind.replace(' ', '-')}-{seed}-{attempt}"
        lives: list[Life] = []
        while not lives or lives[-1].was_killed:
            order = draw(kind, rng, reference, journal_bytes) if len(lives) < wanted else Order()
            lives.append(live(settings, run_dir, order))
        kills = [(life.done, _resumed_after(lives, number)) for number, life in enumerate(lives[:-1])]
        for done, resumed_from in kills:
            assert resumed_from <= done, f"{run_dir}: killed after step {done}, resumed from step {resumed_from}"
        # Killed after its last checkpoint, a run has nothing left to be disturbed: such a blow does not count.
        counted = [kill for kill in kills if kill[1] < SETTINGS["outer.num_steps"]]
        if counted:
            equal = lives[-1].summary["params_sha256"] == reference.summary["params_sha256"]
            return Killed(kind=kind, equal=equal, kills=counted)
    raise AssertionError(f"{kind} {seed}: no blow landed before the end")


def _resumed_after(lives: list[Life], number: int) -> int:
    """Where the first life that came to know it went on after this one."""
    return next(life.resumed_from for life in lives[number + 1 :] if life.resumed_from is not None)
