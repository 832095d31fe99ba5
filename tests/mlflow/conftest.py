"""A real `mlflow server` over HTTP on a loopback port, with sqlite, that can be killed and started again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from metadist.chaos.server import TrackingServer

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("mlflow-server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def clock() -> Callable[[], int]:
    """Time stamps far from now, so that none can be taken for the time of sending."""
    times = itertools.count(1_000_000_000_000, 7)
    return lambda: next(times)


@pytest.fixture
def reader(mlflow_server: Any) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_server.uri)
