"""A training run in a process of its own, seen through its journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metadist.errors import MetadistError
from metadist.tracking import JOURNAL_NAME, read_events

TAIL = 2000  # characters of a failed run's output that are shown


class Driver:
    """``metadist train RECIPE --resume`` as a subprocess.

    Args:
        recipe: A recipe's name or file.
        overrides: Dotted keys and values.
        run_dir: Its run folder; the output goes to ``<run_dir>.log`` beside it.
    """

    def __init__(self, recipe: str, overrides: Mapping[str, Any], run_dir: Path) -> None:
        self.run_dir = run_dir
        options = [part for key, value in overrides.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        self._command = [sys.executable, "-m", "metadist", "train", recipe, *options]
        self._command += ["--run-dir", str(run_dir), "--resume", "--json"]
        self._log = run_dir.with_name(run_dir.name + ".log")
        self._answer = run_dir.with_name(run_dir.name + ".json")
        self.started = 0
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process that is, or was, the last one."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and begin again from the newest checkpoint."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = self._start()

    def stop(self) -> None:
        """Do not leave it behind."""
        if self.is_running:
            self._process.kill()
            self._process.wait()

    def summary(self) -> dict[str, Any]:
        """What the run that has ended printed.

        Raises:
            MetadistError: it did not end well.
        """
        code = self._process.wait()
        if code not in (0, 76):  # 76: done, and tracking is incomplete, which the summary says as well
            text = self._log.read_text(errors="replace")[-TAIL:]
            raise MetadistError(f"the run in {self.run_dir} ended with exit code {code}:\n{text}")
        answer: dict[str, Any] = json.loads(self._answer.read_text().splitlines()[-1])
        return answer

    def observed(self) -> Observed:
        """What the journal says by now."""
        return observe(self.run_dir)

    def _start(self) -> subprocess.Popen[bytes]:
        self.started += 1
        self.run_dir.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log, self._answer.open("ab") as answer:
            return subprocess.Popen(self._command, stdout=answer, stderr=log, stdin=subprocess.DEVNULL)


class Observed:
    """A run as its journal tells it.

    Attributes:
        step: The last finished step.
        workers: Worker id -> (process id, Ray node id), of those that are there.
        reissued: Shards that were issued again.
        lost: Workers that were lost.
    """

    def __init__(self) -> None:
        self.step = 0
        self.workers: dict[str, tuple[int, str]] = {}
        self.reissued = 0
        self.lost = 0

    def take(self, kind: str, step: int | None, data: Mapping[str, Any]) -> None:
        """One event of the journal."""
        if kind == "metrics":
            self.step = max(self.step, step or 0)
        elif data.get("name") == "resumed":
            self.workers.clear()
        elif data.get("name") == "worker_started":
            self.workers[data["worker"]] = (data["pid"], data["node"])
        elif data.get("name") == "worker_lost":
            self.workers.pop(data["worker"], None)
            self.lost += 1
        elif data.get("name") == "shard_reissued":
            self.reissued += 1


def observe(run_dir: Path) -> Observed:
    """Read a run's journal from its beginning; a journal that is being cut off is read again the next time."""
    seen = Observed()
    if (run_dir / JOURNAL_NAME).is_file():
        for event in read_events(run_dir):
            seen.take(event.kind, event.step, event.data)
    return seen


def signal_worker(pid: int, number: int) -> bool:
    """Send a signal to a worker of this machine; False where it is gone, or where the id is another program's now."""
    try:
        if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            return False
        os.kill(pid, number)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True
