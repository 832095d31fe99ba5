"""A stand-in for an MLflow server: keeps rows as MLflow does; can be down, hang, or fail after storing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from metadist.tracking.errors import EventRefused
from metadist.tracking.plan import MAX_METRICS, MetricRow
from metadist.tracking.state import MirrorRun


class FakeServer:
    """Rows are a set, as in MLflow: sending the same name, value, time and step again adds nothing."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}  # token -> id
        self.rows: set[MetricRow] = set()
        self.batches: list[int] = []
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.datasets: set[tuple[str, str, str, str]] = set()
        self.artifacts: list[tuple[str, str]] = []
        self.statuses: list[tuple[str, int]] = []
        self.down = False
        self.fail_after_storing = False
        self.refused_names: set[str] = set()
        self.called = threading.Event()  # a call has arrived
        self.answers = threading.Event()  # cleared: calls hang
        self.answers.set()

    def client(self, uri: str) -> FakeServer:
        return self

    def _arrive(self) -> None:
        self.called.set()
        assert self.answers.wait(timeout=60)
        if self.down:
            raise ConnectionError("connection refused")

    def _leave(self) -> None:
        if self.fail_after_storing:
            raise TimeoutError("the answer was lost")

    def ensure_run(self, run: MirrorRun, start_time: int) -> str:
        self._arrive()
        self.runs.setdefault(run.token, run.run_id or f"run-{len(self.runs)}")
        self._leave()
        return self.runs[run.token]

    def log_metrics(self, run_id: str, rows: Sequence[MetricRow]) -> None:
        self._arrive()
        assert 0 < len(rows) <= MAX_METRICS
        if any(row.name in self.refused_names for row in rows):
            raise EventRefused("no such name")
        self.batches.append(len(rows))
        self.rows.update(rows)
        self._leave()

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        self._arrive()
        self.params.update(params)
        self._leave()

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._arrive()
        self.tags.update(tags)
        self._leave()

    def log_dataset(self, run_id: str, *, name: str, digest: str, source: str, context: str) -> None:
        self._arrive()
        self.datasets.add((name, digest, source, context))
        self._leave()

    def log_artifact(self, run_id: str, path: Path, folder: str) -> None:
        self._arrive()
        self.artifacts.append((path.read_text(), folder))
        self._leave()

    def set_status(self, run_id: str, status: str, time: int) -> None:
        self._arrive()
        self.statuses.append((status, time))
        self._leave()


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> Callable[[], int]:
    """Milliseconds that grow by one at each look, from 1,000 on."""
    times = iter(range(1000, 1_000_000))
    return lambda: next(times)
