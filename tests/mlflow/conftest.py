"""A real `mlflow server` over HTTP on a loopback port, with sqlite, that can be killed and started again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metadist.chaos.server import TrackingServer


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("mlflow-server"))
    server.start()
    yield server
    server.kill()
