"""Addresses, and what the usual mistakes are answered with. Ray is never started here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster import ClusterUnavailable, ContractViolation, RayOptions
from cluster import connect as connecting


@pytest.fixture(autouse=True)
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have started one; then no address would be looked at."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("auto", None),
        ("local", None),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("head.example:6379", ("head.example", 6379)),
        ("[::1]:6379", ("::1", 6379)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int] | None) -> None:
    assert connecting.parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "head", ":6379", "head:", "head:six", "head:0", "head:70000", "ray://head:10001", "http://h:1"],
)
def test_other_forms_are_refused(address: str) -> None:
    with pytest.raises(ContractViolation, match="host:port"):
        connecting.parse_address(address)


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """A port that accepts, reads a little, answers and hangs up; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                if answer:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_closed_port_is_named_with_the_authentication_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    address = free_address()
    with pytest.raises(ClusterUnavailable, match=r"does not answer.*refused.*RAY_AUTH_MODE is token") as caught:
        connecting.connect(RayOptions(address=address))
    assert caught.value.address == address


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_address()
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ClusterUnavailable, match="RAY_AUTH_MODE is not set") as caught:
        connecting.connect(RayOptions())
    assert caught.value.address == address


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["a web server", "hangs up"])
def test_a_port_where_something_else_listens(answer: bytes) -> None:
    with listener(answer) as address, pytest.raises(ClusterUnavailable, match="not a Ray head"):
        connecting.connect(RayOptions(address=address))


def test_a_port_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_GREETING_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterUnavailable, match="not a Ray head"):
            connecting.connect(RayOptions(address=address))


def test_a_ray_that_does_not_let_us_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**settings: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray, "init", refuse)
    settings_frame = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with listener(settings_frame) as address, pytest.raises(ClusterUnavailable, match="RAY_AUTH_TOKEN"):
        connecting.connect(RayOptions(address=address))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 0}, "num_workers must be at least 1; got 0"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"cpus_per_worker": -1}, "cpus_per_worker"),
        ({"gpus_per_worker": -0.5}, "gpus_per_worker"),
        ({"warmup_timeout_s": 0}, "warmup_timeout_s"),
        ({"restart_window_s": 0}, "restart_window_s"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"num_workers": 2, "min_workers": 3}, r"1\.\.num_workers \(2\); got 3"),
    ],
)
def test_wrong_options_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ContractViolation, match=message):
        RayOptions(**settings)  # type: ignore[arg-type]


def test_the_restart_budget_grows_with_the_group() -> None:
    assert RayOptions(num_workers=2).restart_budget == 8
    assert RayOptions(num_workers=70).restart_budget == 280
    assert RayOptions(num_workers=70, max_restarts=0).restart_budget == 0
    assert RayOptions(num_workers=4, gpus_per_worker=0.5).describe() == "4 workers x 1 CPU + 0.5 GPU"
