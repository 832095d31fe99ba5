"""A run in another process, watched through its journal."""

from __future__ import annotations

import threading
from pathlib import Path

from metadist.chaos.driver import Driver
from metadist.tracking import JOURNAL_NAME, read_events
from metadist.tracking.events import decode

TAIL_BYTES = 1 << 14
POLL_S = 0.02


def last_step(run_dir: Path) -> int:
    """The last finished step, from the last lines of the journal; 0 before the first."""
    journal = run_dir / JOURNAL_NAME
    if not journal.is_file():
        return 0
    with journal.open("rb") as file:
        begin = max(0, journal.stat().st_size - TAIL_BYTES)
        file.seek(begin)
        lines = file.read().split(b"\n")[bool(begin) : -1]  # without a first line that was cut, and an unfinished last
    return max((decode(line, 0).step or 0 for line in lines), default=0)


def wait_for_step(driver: Driver, step: int) -> int:
    """Wait until the run has finished a step; returns the last one it has finished."""
    pause = threading.Event()
    while (reached := last_step(driver.run_dir)) < step:
        assert driver.is_running, f"the run ended after step {reached}, before step {step}"
        pause.wait(POLL_S)
    return reached


def step_times(run_dir: Path) -> dict[int, float]:
    """Step -> milliseconds from the journal's line of the step before to its own."""
    begun: dict[int, int] = {}
    for event in read_events(run_dir):
        if event.kind == "metrics" and "train/query_loss" in event.data and event.step:
            begun[event.step] = event.time
    return {step: float(time - begun[step - 1]) for step, time in begun.items() if step - 1 in begun}
