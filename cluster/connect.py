"""Joining a Ray cluster, or starting one of our own, with errors that say what to do.

Ray's authentication is never left implicit: a Ray of our own gets RAY_AUTH_MODE=disabled unless the
environment says otherwise (else Ray writes a token file into the home folder), and a failure to join another
one names the mode.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import AddressRefused, ClusterUnavailable
from cluster.options import RayOptions

_CONNECT_TIMEOUT_S = 3.0
_GREETING_TIMEOUT_S = 7.0
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # empty SETTINGS


def parse_address(address: str) -> tuple[str, int] | None:
    """``host:port`` as (host, port); None for ``"auto"`` and ``"local"``.

    Raises:
        AddressRefused: neither of these.
    """
    if address in ("auto", "local"):
        return None
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AddressRefused(
            f"the Ray address must be 'host:port' (the port of `ray start --head`, by default 6379), 'auto' "
            f"or 'local'; got {address!r}. To run on a distant cluster, submit the program as a Ray job."
        )
    return host.strip("[]"), int(port)


def connect(options: RayOptions) -> bool:
    """Makes sure that this process is part of a Ray cluster.

    Returns:
        Whether it was joined here, so that the caller has to leave it.

    Raises:
        ClusterUnavailable: nothing answers at the address; a closed port is found out within three seconds,
            what is not a Ray within ten, a Ray that does not let us in after about twenty.
        AddressRefused: the address has another form.
    """
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    target = parse_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # else workers would start under `uv run`
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Ray runs workers at niceness 15: beside any other program they would starve while the driver waits.
        os.environ.setdefault("RAY_worker_niceness", "0")

    import ray

    if ray.is_initialized():
        return False
    if target is not None:
        _check_port(address, *target)
    if address == "local":
        _start(options)
    else:
        _join(address)
    return True


@contextmanager
def joined(options: RayOptions) -> Iterator[dict[str, float]]:
    """Be part of the Ray cluster while the block lasts; yields what it has, such as ``{"CPU": 8, "GPU": 2}``.

    A group made inside the block uses this Ray and leaves it running.

    Raises:
        ClusterUnavailable, ContractViolation: as `connect`.
    """
    ours = connect(options)
    import ray

    try:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield {name: float(amount) for name, amount in resources.items()}
    finally:
        if ours:
            ray.shutdown()


def _check_port(address: str, host: str, port: int) -> None:
    try:
        connection = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
    except OSError as error:
        raise _unavailable(address, f"the port does not answer ({error})") from error
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        connection.close()
        return
    # Ray waits for minutes for a port where something else listens. It speaks gRPC, so HTTP/2: such a server
    # sends its SETTINGS frame (type 4, in the fourth byte) before anything else.
    with connection:
        connection.settimeout(_GREETING_TIMEOUT_S)
        try:
            connection.sendall(_HTTP2_GREETING)
            answer = connection.recv(9)
        except OSError as error:
            raise _unavailable(address, f"what listens there is not a Ray head ({error})") from error
    if len(answer) < 4 or answer[3] != 4:
        raise _unavailable(address, "what listens there is not a Ray head (it does not speak gRPC)")


def _start(options: RayOptions) -> None:
    import ray

    cpus = max(os.cpu_count() or 1, math.ceil(options.num_workers * options.cpus_per_worker))
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=options.object_store_memory,
    )


def _join(address: str) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise _unavailable(address, f"{type(error).__name__}: {error}") from error


def _unavailable(address: str, reason: str) -> ClusterUnavailable:
    return ClusterUnavailable(address=address, reason=reason, auth_mode=os.environ.get("RAY_AUTH_MODE"))
