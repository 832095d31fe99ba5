"""A loopback HTTP proxy before a real server, for what a real server cannot be made to do on demand."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")


class Proxy:
    """What the proxy does to requests; all of it may be changed while it serves.

    Attributes:
        uri: Where it listens.
        status: Answer this instead of asking the server; None asks it.
        body: What is answered with ``status``.
        delay_s: Seconds that each answer takes longer.
        most_bytes: A request with a longer body is answered 413, as proxies do.
        loses_answers: The server gets each request, the client gets no answer.
        open: Cleared, it accepts requests and never answers them.
        requests: How many requests have come.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.open = threading.Event()
        self._came = threading.Condition()
        self.requests = 0
        self.heal()

    def heal(self) -> None:
        """Pass everything on."""
        self.status: int | None = None
        self.body = b"<html>not from MLflow</html>"
        self.delay_s = 0.0
        self.most_bytes: int | None = None
        self.loses_answers = False
        self.open.set()

    def came(self) -> None:
        """A request has come."""
        with self._came:
            self.requests += 1
            self._came.notify_all()

    def wait_for_requests(self, count: int, timeout: float) -> bool:
        """Wait until so many requests have come in all."""
        with self._came:
            return self._came.wait_for(lambda: self.requests >= count, timeout)


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """A proxy before the server on this port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):  # the client has given up
                self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.came()
            proxy.open.wait()
            if proxy.delay_s:
                threading.Event().wait(proxy.delay_s)
            if proxy.status is not None:
                self.reply(proxy.status, "text/html", proxy.body)
            elif proxy.most_bytes is not None and len(body) > proxy.most_bytes:
                self.reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/html", proxy.body)
            else:
                self.forward(body)

        def forward(self, body: bytes) -> None:
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            try:
                upstream.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = upstream.getresponse()
                content = answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                upstream.close()
            if not proxy.loses_answers:
                self.reply(answer.status, answer.getheader("Content-Type") or "", content)

        def reply(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  # names of http.server

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.open.set()
            server.shutdown()
            thread.join()
