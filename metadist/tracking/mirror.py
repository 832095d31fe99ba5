"""The mirror: a background thread that brings the journal to MLflow, and `sync`, which does it later.

Training writes the journal and never waits for this thread. The thread reads from the acknowledged offset,
sends, acknowledges; when MLflow is away it waits, longer each time, and starts again from there; where MLflow
turns us away it asks once a minute, and says what to do. A crash
between sending and acknowledging sends a piece twice, which changes nothing: MLflow keeps one row for the
same name, value, time and step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from metadist.tracking.client import ClientFactory, make_client, one_line
from metadist.tracking.errors import (
    JournalMissing,
    SendingTakenOver,
    TrackingDenied,
    TrackingError,
    TrackingUnavailable,
)
from metadist.tracking.events import JOURNAL_NAME
from metadist.tracking.sender import Sender, new_run
from metadist.tracking.state import load_run
from metadist.tracking.uri import check_reachable, tracking_uri_of

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_LONGEST_WAIT_CLOSING_S = 1.0
_NOTABLE_FAILURES = 2  # in a row; a single one is no news


def wait_after(num_failures: int, *, closing: bool, denied: bool = False) -> float | None:
    """Seconds to wait after so many failures in a row; None: do not try again before the end.

    >>> [wait_after(n, closing=False) for n in (1, 2, 3, 20)]
    [0.5, 1.0, 2.0, 60.0]
    >>> wait_after(20, closing=True)
    1.0
    >>> wait_after(1, closing=False, denied=True), wait_after(1, closing=True, denied=True)
    (60.0, None)
    """
    if denied:
        return None if closing else _LONGEST_WAIT_S
    longest = _LONGEST_WAIT_CLOSING_S if closing else _LONGEST_WAIT_S
    return float(min(longest, _FIRST_WAIT_S * 2.0 ** min(num_failures - 1, 30)))


class MlflowMirror:
    """Mirrors one run folder to MLflow until it is closed.

    Args:
        run_dir: The run folder; its journal may be written at the same time.
        uri: The tracking URI, as `resolve_tracking_uri` gives it.
        experiment: The experiment's name; made if it is missing.
        run_name: The name of a new run. A folder that was mirrored to this URI before goes on in its run.
        factory: Makes the client; tests give their own.
        interval_s: Seconds between two looks at the journal.
        on_message: Hears, in the mirror's thread, when MLflow fails and when it is back.

    Example:
        mirror = MlflowMirror(run_dir, uri=uri, experiment="omniglot", run_name="seed-0").start()
        ...  # training writes the journal
        num_unsent = mirror.close(timeout=30)
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        uri: str,
        experiment: str,
        run_name: str,
        factory: ClientFactory = make_client,
        interval_s: float = 1.0,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._sender = Sender(Path(run_dir), new_run(uri, experiment, run_name), factory)
        self._interval_s = interval_s
        self._on_message = on_message
        self._wake = threading.Event()
        self._closing = False
        self._last_error: str | None = None
        # A daemon: a call that hangs in MLflow must not keep a finished training run alive.
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)

    def start(self) -> Self:
        """Start the thread; it creates or resumes the MLflow run with the journal's first event."""
        self._thread.start()
        return self

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow has answered once."""
        return self._sender.run_id

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed; None while all is well."""
        return self._last_error

    @property
    def num_refused(self) -> int:
        """How many events of this run MLflow has refused for good (each was logged as a warning)."""
        return self._sender.acknowledged.refused

    @property
    def num_unsent(self) -> int:
        """How many events of the journal MLflow does not have yet."""
        return self._sender.num_unsent()

    def wait_until_sent(self, offset: int, timeout: float) -> bool:
        """Wait until MLflow has the journal up to this byte; False when the seconds are over."""
        self._wake.set()
        return self._sender.wait_until_sent(offset, timeout)

    def close(self, timeout: float = 30.0) -> int:
        """Send the rest, for at most so many seconds, and stop.

        Returns:
            How many events MLflow does not have; `sync` sends them later.
        """
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._sender.stop()
        self._wake.set()
        return self._sender.num_unsent()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, error: Exception, num_failures: int, closing: bool) -> float | None:
        """Say so if it is news; the seconds to wait, None where trying again is of no use."""
        ours = isinstance(error, TrackingError)
        self._last_error = str(error) if ours else f"{type(error).__name__}: {one_line(error)}"
        denied = isinstance(error, TrackingDenied)
        if not closing and num_failures == (1 if denied else _NOTABLE_FAILURES):
            self._on_message(f"tracking waits, training goes on and loses nothing: {self._last_error}")
        return wait_after(num_failures, closing=closing, denied=denied)

    def _work(self) -> None:
        num_failures = 0
        try:
            while True:
                self._wake.clear()  # before looking at _closing: a close in between then wakes the wait below
                last_round = self._closing  # before sending: the last round then has all of the journal
                wait_s: float | None = self._interval_s
                try:
                    self._sender.send_pending()
                except SendingTakenOver as error:
                    self._last_error = str(error)
                    return
                except Exception as error:
                    # Whatever MLflow or the network raises, training goes on and the next round tries again.
                    num_failures += 1
                    wait_s = self._failed(error, num_failures, last_round)
                else:
                    if num_failures >= _NOTABLE_FAILURES:
                        self._on_message("MLflow takes the run's tracking again")
                    num_failures, self._last_error = 0, None
                    if last_round:
                        return
                if self._sender.stopped or wait_s is None:
                    return
                self._wake.wait(wait_s)
        finally:
            self._sender.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What `sync` did: the run, where it is, how many events went now, how many MLflow refused in all."""

    run_id: str
    uri: str
    num_sent: int
    num_refused: int


def sync(
    run_dir: str | Path,
    *,
    uri: str | None = None,
    experiment: str | None = None,
    run_name: str | None = None,
    timeout: float = 10.0,
    factory: ClientFactory = make_client,
) -> SyncReport:
    """Send what MLflow does not have of a run, now, in this thread. Doing it twice changes nothing.

    Args:
        run_dir: The run folder.
        uri: Where to, by default as `tracking_uri_of` says.
        experiment, run_name: For a run that is new there; by default what the folder knows, else ``metadist`` and the
            folder's name.
        timeout: Seconds within which the server must answer at all.

    Raises:
        JournalMissing: It is not a run folder.
        TrackingUnavailable: MLflow is away, or failed on the way; what was sent is acknowledged. `TrackingDenied`
            where it turned us away.
    """
    folder = Path(run_dir).absolute()
    if not (folder / JOURNAL_NAME).is_file():
        raise JournalMissing(str(folder))
    target, known = tracking_uri_of(folder, uri), load_run(folder)
    check_reachable(target, timeout)
    experiment = experiment or (known.experiment if known else "metadist")
    run_name = run_name or (known.run_name if known else folder.name)
    sender = Sender(folder, new_run(target, experiment, run_name), factory)
    num_before = sender.num_unsent()
    try:
        _send_all(sender, target)
    finally:
        sender.release()
    return SyncReport(
        run_id=sender.run_id or "",
        uri=target,
        num_sent=num_before - sender.num_unsent(),
        num_refused=sender.acknowledged.refused,
    )


def _send_all(sender: Sender, uri: str) -> None:
    """Send until all is sent, or until an attempt brings nothing forward."""
    while True:
        before = sender.acknowledged
        try:
            sender.send_pending()
            return
        except TrackingError:
            raise
        except Exception as error:
            if sender.acknowledged == before:
                raise TrackingUnavailable(uri, f"{type(error).__name__}: {one_line(error)}") from error
