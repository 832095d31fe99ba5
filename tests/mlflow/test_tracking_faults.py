"""Faults of an MLflow server in the middle of a run, one row each; then `sync` brings what is missing, once."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metadist.tracking import Journal, MlflowMirror, TrackingDenied, TrackingUnavailable, sync
from tests.mlflow.points import check_points
from tests.support.processes import descendants
from tests.support.proxy import Proxy, proxy_before

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0  # how long a test waits for what must happen; it is not a measurement
HALF = 300
FULL_DISK = b'{"error_code": "INTERNAL_ERROR", "message": "(sqlite3.OperationalError) database or disk is full"}'


def refuse(status: int, body: bytes | None = None) -> Callable[[Proxy], None]:
    def break_it(proxy: Proxy) -> None:
        proxy.status, proxy.body = status, body or proxy.body

    return break_it


FAULTS: dict[str, tuple[Callable[[Proxy], None], type[TrackingUnavailable], str]] = {
    "credentials refused": (refuse(401), TrackingDenied, "MLFLOW_TRACKING_TOKEN"),
    "too little allowed": (refuse(403), TrackingDenied, "may write this experiment"),
    "disk full, as MLflow says it": (refuse(500, FULL_DISK), TrackingUnavailable, "HTTP 500"),
    "disk full, as a proxy says it": (refuse(507), TrackingUnavailable, "HTTP 507"),
    "overloaded": (refuse(503), TrackingUnavailable, "HTTP 503"),
    "hung": (lambda proxy: proxy.open.clear(), TrackingUnavailable, "timed out"),
    "answers lost": (lambda proxy: setattr(proxy, "loses_answers", True), TrackingUnavailable, "cannot be used now"),
}


@pytest.fixture
def proxy(mlflow_server: Any) -> Iterator[Proxy]:
    with proxy_before(mlflow_server.port) as proxy:
        yield proxy


def mirror_of(run_dir: Path, uri: str, said: list[str] | None = None) -> MlflowMirror:
    hear = (lambda message: None) if said is None else said.append
    mirror = MlflowMirror(
        run_dir, uri=uri, experiment="faults", run_name=run_dir.name, interval_s=0.05, on_message=hear
    )
    return mirror.start()


def write(journal: Journal, start: int) -> None:
    for step in range(start, start + HALF):
        journal.metrics(step, {"train/query_loss": 1 / (step + 1), "train/accuracy": 0.5})


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_middle(
    name: str, tmp_path: Path, proxy: Proxy, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    break_it, kind, words = FAULTS[name]
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, proxy.uri)
        write(journal, 0)
        assert mirror.wait_until_sent(journal.position(), PATIENCE_S), mirror.last_error
        break_it(proxy)
        before = proxy.requests
        write(journal, HALF)
        journal.status("FINISHED")
        assert proxy.wait_for_requests(before + 1, PATIENCE_S)
        assert mirror.close(timeout=0.1) == HALF + 1  # the run has ended and says how many are missing
        with pytest.raises(kind, match=words):
            sync(tmp_path, timeout=0.5)
        proxy.heal()
        mirror._thread.join(PATIENCE_S)  # what it was sending when it was closed is not acknowledged
    report = sync(tmp_path)
    assert (report.num_sent, report.run_id) == (HALF + 1, mirror.run_id)
    check_points(reader, tmp_path)
    assert sync(tmp_path).num_sent == 0
    assert reader.get_run(report.run_id).info.status == "FINISHED"


def test_a_refused_mirror_says_what_to_do_and_does_not_hammer(
    tmp_path: Path, proxy: Proxy, reader: MlflowClient
) -> None:
    said: list[str] = []
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, proxy.uri, said)
        write(journal, 0)
        assert mirror.wait_until_sent(journal.position(), PATIENCE_S), mirror.last_error
        proxy.status = 401
        before = proxy.requests
        write(journal, HALF)
        assert proxy.wait_for_requests(before + 1, PATIENCE_S)
        assert mirror.close(PATIENCE_S) == HALF  # it ends by itself: asking again would be of no use
        assert not mirror._thread.is_alive()
        assert proxy.requests - before <= 3  # while training; when it ended
    assert len(said) == 1 and "loses nothing" in said[0] and "MLFLOW_TRACKING_USERNAME" in said[0]


def test_a_mirror_says_once_that_it_waits_and_once_that_it_goes_on(tmp_path: Path, proxy: Proxy) -> None:
    said: list[str] = []
    proxy.status = 503
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, proxy.uri, said)
        write(journal, 0)
        assert proxy.wait_for_requests(3, PATIENCE_S)
        proxy.heal()
        assert mirror.wait_until_sent(journal.position(), PATIENCE_S)
        assert mirror.close(PATIENCE_S) == 0
    waiting, going_on = said
    assert "503" in waiting and "training goes on" in waiting and "again" in going_on


def test_a_slow_server_gets_everything(
    tmp_path: Path, proxy: Proxy, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    proxy.delay_s = 0.1
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, proxy.uri)
        write(journal, 0)
        write(journal, HALF)
        assert mirror.close(PATIENCE_S) == 0, mirror.last_error
    check_points(reader, tmp_path)


def test_a_server_that_takes_little_at_once_gets_everything(
    tmp_path: Path, proxy: Proxy, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    """A proxy's limit, or a server too slow for a thousand points within its time: the pieces get smaller."""
    proxy.most_bytes = 20_000
    with Journal(tmp_path, clock=clock) as journal:
        write(journal, 0)
        write(journal, HALF)
        journal.status("FINISHED")
    sync(tmp_path, uri=proxy.uri, experiment="faults")
    check_points(reader, tmp_path)


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """No file that a process or its children write may grow: the kernel refuses, as on a full disk."""
    pids = list(descendants(pid))
    limits = {member: resource.prlimit(member, resource.RLIMIT_FSIZE) for member in pids}
    for member, (_, hard) in limits.items():
        resource.prlimit(member, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        for member, limit in limits.items():
            resource.prlimit(member, resource.RLIMIT_FSIZE, limit)


def test_the_disk_of_a_real_server_is_full(
    tmp_path: Path, mlflow_server: Any, reader: MlflowClient, clock: Callable[[], int]
) -> None:
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # else the kernel would end the server instead
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, mlflow_server.uri)
        write(journal, 0)
        assert mirror.wait_until_sent(journal.position(), PATIENCE_S), mirror.last_error
        with full_disk(mlflow_server.pid):
            write(journal, HALF)
            assert mirror.close(timeout=0.1) == HALF
            mirror._thread.join(PATIENCE_S)
            with pytest.raises(TrackingUnavailable, match="503"):
                sync(tmp_path)
    assert sync(tmp_path).num_sent == HALF
    check_points(reader, tmp_path)
