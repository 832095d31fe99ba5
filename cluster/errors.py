"""Everything that can go wrong in a worker group, as one tree.

    ClusterError
    ├── ClusterUnavailable      no Ray answers at the address
    ├── GroupStartTimeout       Ray answers, but too few workers became (or stayed) ready in time
    ├── WorkerStartFailed       the factory raised, and in no worker it did not: raised at once
    ├── ContractViolation       a caller or a work function broke the contract (also a ValueError)
    │   └── AddressRefused      the address is none that a group can join
    ├── ShardFailed             the work function raised: a function failure, raised at once
    ├── ShardPoisoned           one item lost its place too often: place failures, attempts used up
    ├── ResultsDiffer           two workers gave different results for one item: a machine computes wrong
    └── WorkersLost             too few workers are left and the restart budget is used up

``PlaceFailure`` stands apart: a work function raises it to say that *this place* cannot do the work
(its accelerator is out of memory, its disk is full) while another place may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClusterError(Exception):
    """Base of all errors of a worker group. Each of them pickles with its type, message and fields."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(cls: type[ClusterError], args: tuple[Any, ...], fields: Mapping[str, Any]) -> ClusterError:
    # Not through __init__: the constructors take keyword arguments and compose the message from them.
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ClusterUnavailable(ClusterError):
    """No Ray cluster could be reached at ``address``."""

    def __init__(self, *, address: str, reason: str, auth_mode: str | None) -> None:
        super().__init__(
            f"no Ray cluster at {address!r}: {reason}. Check that `ray start --head` runs there and that the "
            f"port is open. A cluster that uses token authentication refuses others without saying so: here "
            f"RAY_AUTH_MODE is {auth_mode or 'not set'}; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the "
            f"cluster's token, or RAY_AUTH_MODE=disabled for a cluster without it."
        )
        self.address = address
        self.reason = reason
        self.auth_mode = auth_mode


class GroupStartTimeout(ClusterError):
    """Fewer workers than needed were ready when the time to wait for them was over."""

    def __init__(self, *, ready: int, needed: int, timeout_s: float, asked: str, has: str, last: str) -> None:
        super().__init__(
            f"{ready} of {needed} needed workers were ready after {timeout_s:g} s. Asked: {asked}. "
            f"Ray has: {has}. Last loss: {last.rstrip('.')}. Ask for fewer or smaller workers (num_workers, "
            f"cpus_per_worker, gpus_per_worker), accept fewer (min_workers), or wait longer (warmup_timeout_s at "
            f"the start, capacity_timeout_s later)."
        )
        self.ready = ready
        self.needed = needed
        self.timeout_s = timeout_s
        self.asked = asked
        self.has = has
        self.last = last


class WorkerStartFailed(ClusterError):
    """The factory raised while a worker built its work function."""

    def __init__(self, *, worker: str, error_type: str, message: str, remote_traceback: str) -> None:
        super().__init__(
            f"worker {worker} could not build its work function: {error_type}: {message}\n"
            f"--- traceback in the worker ---\n{remote_traceback.rstrip()}"
        )
        self.worker = worker
        self.error_type = error_type
        self.message = message
        self.remote_traceback = remote_traceback


class ContractViolation(ClusterError, ValueError):
    """A caller or a work function broke the contract of the group; the message says which rule."""


class AddressRefused(ContractViolation):
    """The address of a Ray cluster has a form that no cluster is joined by."""


class ShardFailed(ClusterError):
    """The work function raised for one item. Running it again would raise again, so nothing is retried.

    Attributes:
        version: of the call, as given to ``map_ordered``.
        index: position of the item in the call.
        describe: ``item.describe()``.
        error_type: name of the original exception's class, with its module unless it is a builtin.
        message: the original message.
        remote_traceback: as text, from where it was raised.
        worker: id of the worker that ran it.

    ``__cause__`` is the original exception itself when it survives a pickle, else None.
    """

    def __init__(
        self,
        *,
        version: int,
        index: int,
        describe: str,
        error_type: str,
        message: str,
        remote_traceback: str,
        worker: str,
    ) -> None:
        super().__init__(
            f"version {version}, item {index} ({describe}) raised {error_type} in worker {worker}: "
            f"{message}\n--- traceback in the worker ---\n{remote_traceback.rstrip()}"
        )
        self.version = version
        self.index = index
        self.describe = describe
        self.error_type = error_type
        self.message = message
        self.remote_traceback = remote_traceback
        self.worker = worker


class ShardPoisoned(ClusterError):
    """One item was charged with ``attempts`` place failures; the last attempt ran alone on its node."""

    def __init__(self, *, version: int, index: int, describe: str, attempts: int, reasons: tuple[str, ...]) -> None:
        listed = "; ".join(f"{n}. {reason}" for n, reason in enumerate(reasons, 1))
        super().__init__(
            f"version {version}, item {index} ({describe}) cost {attempts} workers and is not tried again: "
            f"{listed}. Most often it needs more memory than a worker has."
        )
        self.version = version
        self.index = index
        self.describe = describe
        self.attempts = attempts
        self.reasons = reasons


class ResultsDiffer(ClusterError):
    """Two workers computed one item and did not agree to the bit."""

    def __init__(self, *, version: int, index: int, describe: str, workers: tuple[str, str]) -> None:
        super().__init__(
            f"version {version}, item {index} ({describe}) gave different bits on workers {workers[0]} and "
            f"{workers[1]}. Either their processors or libraries differ, or one of them computes wrong: run on "
            f"machines of one kind, and test the memory of these two."
        )
        self.version = version
        self.index = index
        self.describe = describe
        self.workers = workers


class WorkersLost(ClusterError):
    """Too few workers are left, and the restart budget of the time window is used up."""

    def __init__(self, *, alive: int, needed: int, restarts: int, window_s: float, last_reason: str) -> None:
        super().__init__(
            f"{alive} workers are left of at least {needed} needed, and the budget of {restarts} restarts in "
            f"{window_s:g} s is used up. Last loss: {last_reason}. Look at the machines (memory, "
            f"preemption), or raise max_restarts."
        )
        self.alive = alive
        self.needed = needed
        self.restarts = restarts
        self.window_s = window_s
        self.last_reason = last_reason


class PlaceFailure(Exception):
    """Raised by a work function or a factory: this worker cannot do it, another one may."""
