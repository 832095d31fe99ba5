"""An MLflow server of one's own on a loopback port, that can be made to hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from metadist.errors import ServiceAway
from metadist.tracking import TrackingUnavailable, check_reachable

START_S = 120.0
POLL_S = 0.2
TAIL = 2000  # characters of its log that are shown where it does not come up


class TrackingServer:
    """``mlflow server`` with sqlite in a folder, in a process group of its own; the database outlives a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started; its workers are below it."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again on the same port, and wait until it answers.

        Raises:
            ServiceAway: it does not come up.
        """
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/server.db"),
            *("--artifacts-destination", str(self._folder / "artifacts"), "--serve-artifacts"),
        ]
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                check_reachable(self.uri, timeout=5)
                return
            except TrackingUnavailable:
                time.sleep(POLL_S)
        self.kill()
        text = (self._folder / "server.log").read_text(errors="replace")[-TAIL:]
        raise ServiceAway(f"the MLflow server on {self.uri} did not come up:\n{text}")

    def hang(self) -> None:
        """It accepts connections and never answers."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It answers again."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
