"""A real `mlflow server` over HTTP on a loopback port, with sqlite, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from metadist.tracking import TrackingUnavailable, check_reachable

START_S = 120


class Server:
    """`mlflow server` in its own process group; the database outlives a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/server.db"),
            *("--artifacts-destination", str(self._folder / "artifacts"), "--serve-artifacts"),
        ]
        environ = os.environ | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        pause = threading.Event()
        for _ in range(START_S * 5):
            try:
                check_reachable(self.uri, timeout=5)
                return
            except TrackingUnavailable:
                assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
                pause.wait(0.2)  # polls a condition; there is nothing to wait on in another program
        raise AssertionError((self._folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow-server"))
    server.start()
    yield server
    server.kill()
