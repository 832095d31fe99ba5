"""Pinned downloads, against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks_store import ImportFailed
from tasks_store.importers.download import OMNIGLOT, Pinned, download_omniglot

FILES = {"/a.zip": b"first" * 30_000, "/b.zip": b"second"}


class _Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        data = FILES.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    _Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def _pinned(server: str, path: str, data: bytes | None = None) -> Pinned:
    data = FILES[path] if data is None else data
    return Pinned(server + path, hashlib.sha256(data).hexdigest(), len(data))


def test_fetches_once(server: str, tmp_path: Path) -> None:
    files = {"a.zip": _pinned(server, "/a.zip"), "b.zip": _pinned(server, "/b.zip")}
    for _ in range(2):
        assert download_omniglot(tmp_path / "o", files=files) == tmp_path / "o"
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()} == {
        "a.zip": FILES["/a.zip"],
        "b.zip": FILES["/b.zip"],
    }
    assert _Handler.asked == ["/a.zip", "/b.zip"], "the second time nothing was asked for"


def test_a_damaged_file_is_fetched_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(b"secxnd")
    download_omniglot(tmp_path, files={"b.zip": _pinned(server, "/b.zip")})
    assert (tmp_path / "b.zip").read_bytes() == FILES["/b.zip"]


@pytest.mark.parametrize("other", [b"", b"short", b"another text of some length" * 9000])
def test_other_bytes_are_not_kept(server: str, tmp_path: Path, other: bytes) -> None:
    with pytest.raises(ImportFailed, match=r"sha256 .* expected .* not kept"):
        download_omniglot(tmp_path, files={"a.zip": _pinned(server, "/a.zip", other)})
    assert list(tmp_path.iterdir()) == []


def test_no_such_file_and_no_server(server: str, tmp_path: Path) -> None:
    for url in (f"{server}/c.zip", "http://127.0.0.1:9/a.zip"):
        with pytest.raises(ImportFailed, match=f"cannot fetch {url}: .*import with --from"):
            download_omniglot(tmp_path, files={"a.zip": Pinned(url, "0" * 64, 5)})
    assert list(tmp_path.iterdir()) == []


def test_the_pinned_files() -> None:
    assert set(OMNIGLOT) == {"images_background.zip", "images_evaluation.zip"}
    for name, pinned in OMNIGLOT.items():
        assert pinned.url == f"https://github.com/brendenlake/omniglot/raw/master/python/{name}"
        assert len(bytes.fromhex(pinned.sha256)) == 32
