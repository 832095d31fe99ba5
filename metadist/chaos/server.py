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


class TrackingServer:
    """``mlflow server`` with sqlite in a folder, in a process group of its own.

    Raises:
        ServiceAway: it does not come up.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{port}"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"),
            *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
        ]
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self._await(folder / "server.log")

    def hang(self) -> None:
        """It accepts connections and never answers."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """It answers again."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server and its workers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _await(self, log: Path) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                check_reachable(self.uri, timeout=5)
                return
            except TrackingUnavailable:
                time.sleep(POLL_S)
        self.close()
        raise ServiceAway(f"the MLflow server on {self.uri} did not come up; its log is {log}")
