"""Where tracking goes, and what the start check says of a server that is dead, hung or unfriendly."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metadist.tracking import (
    TrackingUnavailable,
    TrackingUriRefused,
    check_reachable,
    resolve_tracking_uri,
    tracking_uri_of,
)
from metadist.tracking.state import MirrorRun, save_run


@pytest.mark.parametrize(
    ("config_uri", "environ", "uri"),
    [
        (None, {}, "sqlite:////runs/mlflow.db"),
        (None, {"MLFLOW_TRACKING_URI": "http://a:5000"}, "http://a:5000"),
        ("http://b:5000", {"MLFLOW_TRACKING_URI": "http://a:5000"}, "http://b:5000"),
        ("sqlite:///runs/x.db", {}, "sqlite:////runs/runs/x.db"),
        ("sqlite:////abs/x.db", {}, "sqlite:////abs/x.db"),
        ("postgresql://host/db", {}, "postgresql://host/db"),
        ("postgresql+psycopg2://host/db", {}, "postgresql+psycopg2://host/db"),
        ("databricks", {}, "databricks"),
        ("databricks://profile", {}, "databricks://profile"),
    ],
)
def test_resolve(config_uri: str | None, environ: dict[str, str], uri: str) -> None:
    assert resolve_tracking_uri(config_uri, environ=environ, cwd=Path("/runs")) == uri


@pytest.mark.parametrize("uri", ["./mlruns", "/data/mlruns", "file:./mlruns", "file:///data", "sqlite:///"])
def test_folders_are_refused(uri: str) -> None:
    with pytest.raises(TrackingUriRefused, match=r"sqlite:///mlflow\.db") as caught:
        resolve_tracking_uri(uri)
    assert caught.value.uri == uri


@pytest.mark.parametrize(("uri", "words"), [("foo://bar", "it has http, https"), ("htp://a:5000", "mean http://")])
def test_a_scheme_that_mlflow_does_not_have_is_refused(uri: str, words: str) -> None:
    for arguments in (
        {"config_uri": uri, "environ": {}},
        {"config_uri": None, "environ": {"MLFLOW_TRACKING_URI": uri}},
    ):
        with pytest.raises(TrackingUriRefused, match=words) as caught:
            resolve_tracking_uri(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value) and repr(uri) in str(caught.value)


ENVIRON = {"MLFLOW_TRACKING_URI": "http://environment"}


@pytest.mark.parametrize(
    ("config_uri", "known", "environ", "uri"),
    [
        (None, None, {}, "sqlite:////now/mlflow.db"),
        (None, None, ENVIRON, "http://environment"),
        (None, "sqlite:////first/mlflow.db", {}, "sqlite:////first/mlflow.db"),
        (None, "sqlite:////first/mlflow.db", ENVIRON, "sqlite:////first/mlflow.db"),
        ("http://named", "sqlite:////first/mlflow.db", ENVIRON, "http://named"),
        ("sqlite:///x.db", "sqlite:////first/x.db", ENVIRON, "sqlite:////first/x.db"),
        ("sqlite:///b/x.db", "sqlite:////first/x.db", {}, "sqlite:////now/b/x.db"),
        ("sqlite:////abs/x.db", "sqlite:////first/x.db", {}, "sqlite:////abs/x.db"),
        ("sqlite:///x.db", "http://first", {}, "sqlite:////now/x.db"),
    ],
)
def test_a_run_stays_where_it_is_tracked(
    config_uri: str | None, known: str | None, environ: dict[str, str], uri: str, tmp_path: Path
) -> None:
    if known is not None:
        save_run(tmp_path, MirrorRun(uri=known, experiment="e", run_name="r", token="t"))
    assert tracking_uri_of(tmp_path, config_uri, environ=environ, cwd=Path("/now")) == uri


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 404])
def test_a_server_that_answers(status: int) -> None:
    with answering(status) as uri:
        check_reachable(uri, timeout=10)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "MLFLOW_TRACKING_TOKEN"), (403, "--allowed-hosts"), (503, "HTTP 503")]
)
def test_a_server_that_turns_us_away(status: int, words: str) -> None:
    with answering(status) as uri, pytest.raises(TrackingUnavailable, match=words) as caught:
        check_reachable(uri, timeout=10)
    assert caught.value.uri == uri
    assert "HTTP" in str(caught.value)


def test_a_dead_server() -> None:
    with socket.socket() as bound:  # bound but not listening: refused
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(TrackingUnavailable, match=r"refused.*start or repair it"):
            check_reachable(f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=10)


def test_a_hung_server() -> None:
    listening = socket.create_server(("127.0.0.1", 0))  # the kernel accepts; nobody answers
    with listening, pytest.raises(TrackingUnavailable, match="timed out"):
        check_reachable(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.2)


def test_sqlite_needs_a_writable_folder(tmp_path: Path) -> None:
    check_reachable(f"sqlite:///{tmp_path}/mlflow.db", timeout=1)
    with pytest.raises(TrackingUnavailable, match=r"absent does not exist"):
        check_reachable(f"sqlite:///{tmp_path}/absent/mlflow.db", timeout=1)
    check_reachable("postgresql://nowhere/db", timeout=1)  # not asked


def test_importing_tracking_imports_no_mlflow() -> None:
    program = "import sys, metadist.tracking; sys.exit('mlflow' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
