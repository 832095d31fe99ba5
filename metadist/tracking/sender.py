"""Sends what MLflow does not have yet, in the calling thread. The mirror and `sync` are loops around it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metadist.tracking.client import ClientFactory, TrackingClient
from metadist.tracking.errors import EventRefused, JournalOffsetInvalid, SendingTakenOver, TrackingError
from metadist.tracking.events import JOURNAL_NAME, Event, check_offset, read_events
from metadist.tracking.plan import (
    MIN_METRICS,
    MetricRow,
    Sending,
    flatten,
    next_size,
    param_text,
    plan_sendings,
    safe_name,
)
from metadist.tracking.secret import without_password
from metadist.tracking.send_lock import SendLock
from metadist.tracking.state import (
    Acknowledged,
    FirstSent,
    MirrorRun,
    load_acknowledged,
    load_rolled_back,
    load_run,
    save_acknowledged,
    save_run,
)

_log = logging.getLogger(__name__)


class Sender:
    """The state of one run's mirror: where it goes, how far it has come, what was refused.

    A lock in the run folder keeps two senders of one run apart (a driver and `metadist sync`).

    Args:
        run_dir: The run folder.
        run: Where to; kept in the folder. A folder already mirrored to the same URI keeps its experiment, name and
            run. Another URI gets the whole journal from its first line, and takes the place of the one before in the
            folder once it has answered with a run.
        factory: Makes the client, at the first sending.
    """

    def __init__(self, run_dir: Path, run: MirrorRun, factory: ClientFactory) -> None:
        self.run_dir = run_dir.absolute()
        self._journal = self.run_dir / JOURNAL_NAME
        self._factory = factory
        self._wanted = run
        self._client: TrackingClient | None = None
        self._run: MirrorRun | None = None
        self._lock = SendLock(self.run_dir)
        self._first_sent: FirstSent = {}
        self._max_metrics = MIN_METRICS
        self._changed = threading.Condition()
        self._stopped = False
        known = load_run(self.run_dir)
        same = known is not None and known.uri == run.uri
        self._acknowledged = load_acknowledged(self.run_dir) if same else Acknowledged()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow has answered once."""
        return (self._run.run_id if self._run else "") or None

    @property
    def acknowledged(self) -> Acknowledged:
        """How far MLflow has the journal."""
        return self._acknowledged

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def num_unsent(self) -> int:
        """How many events of the journal MLflow does not have yet; none of them is ours to send once it was taken."""
        if not self._journal.is_file() or self._lock.is_lost:
            return 0
        with self._journal.open("rb") as file:
            file.seek(self._acknowledged.offset)
            return sum(line.endswith(b"\n") for line in file)

    def wait_until_sent(self, offset: int, timeout: float) -> bool:
        """Wait until MLflow has everything before this byte; False when the time (seconds) is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._acknowledged.offset >= offset, timeout)

    def stop(self) -> None:
        """Acknowledge nothing from now on, and send nothing more once the call under way is over."""
        with self._changed:
            self._stopped = True

    def release(self) -> None:
        """Give the run folder free for another sender."""
        self._lock.release()

    def send_pending(self) -> None:
        """Send everything that is in the journal now and acknowledge it piece by piece.

        Raises:
            SendingTakenOver: Another driver has taken the run folder over.
            TrackingError: Another process sends this run; the journal is damaged.
            Exception: Whatever MLflow raises when it is away; what was sent before is acknowledged.
        """
        self._check_lock()
        if not self._journal.is_file() or (self._run is not None and self._at_end()):
            return
        run = self._run or self._open()
        if self._at_end():
            return
        if self._client is None:
            self._client = self._factory(run.uri)
        if not run.run_id:
            start_time = next(read_events(self._journal)).time
            run = replace(run, run_id=self._client.ensure_run(run, start_time))
            self._check_lock()  # while we hung in that call a successor may have made a run of its own
            save_acknowledged(self.run_dir, self._acknowledged)  # first: killed in between, too much is sent again
            save_run(self.run_dir, run)
            self._run = run
        events = read_events(self._journal, self._acknowledged.offset)
        for sending in plan_sendings(events, self._first_sent, lambda: self._max_metrics):
            if self._stopped:
                return
            self._acknowledge(sending, self._send(self._client, run.run_id, sending))

    def _check_lock(self) -> None:
        if self._lock.is_lost:
            raise SendingTakenOver(str(self.run_dir))

    def _at_end(self) -> bool:
        return self._journal.stat().st_size <= self._acknowledged.offset

    def _open(self) -> MirrorRun:
        if not self._lock.acquire():
            raise TrackingError(f"another process is sending {self.run_dir} to MLflow at this moment; let it finish")
        known = load_run(self.run_dir)
        self._first_sent = load_rolled_back(self.run_dir)
        if known is not None and known.uri == self._wanted.uri:
            self._run, self._acknowledged = known, self._checked(load_acknowledged(self.run_dir))
            return known
        self._acknowledged = Acknowledged()
        if known is None:
            self._run = self._wanted
            save_acknowledged(self.run_dir, self._acknowledged)
            save_run(self.run_dir, self._wanted)
        else:  # its token finds the run again, should an answer be lost or the run go back to where it was
            self._run = replace(self._wanted, token=known.token)
            _log.warning(
                "this run was mirrored to %s; %s now gets all of it",
                without_password(known.uri),
                without_password(self._wanted.uri),
            )
        return self._run

    def _checked(self, acknowledged: Acknowledged) -> Acknowledged:
        """What was acknowledged, or nothing if that is no place in this journal: sending again changes nothing."""
        try:
            check_offset(self._journal, acknowledged.offset)
        except JournalOffsetInvalid as error:
            _log.warning("MLflow gets the whole journal again: %s", error)
            return Acknowledged()
        return acknowledged

    def _send(self, client: TrackingClient, run_id: str, sending: Sending) -> int:
        """Send one piece; the number of refusals."""
        if sending.event is None:
            return self._send_metrics(client, run_id, sending.metrics)
        try:
            self._send_event(client, run_id, sending.event)
        except EventRefused as error:
            _log.warning("MLflow has refused the journal's %s event: %s", sending.event.kind, error.reason)
            return 1
        return 0

    def _send_metrics(self, client: TrackingClient, run_id: str, rows: Sequence[MetricRow]) -> int:
        if not rows:
            return 0
        try:
            client.log_metrics(run_id, rows)
        except EventRefused as error:
            if len(rows) == 1:
                _log.warning("MLflow has refused the metric %s of step %d: %s", *rows[0][::3], error.reason)
                return 1
            half = len(rows) // 2  # one bad row must not take its neighbours with it
            return sum(self._send_metrics(client, run_id, part) for part in (rows[:half], rows[half:]))
        except Exception:
            self._max_metrics = next_size(min(self._max_metrics, len(rows)), failed=True)
            raise
        self._max_metrics = next_size(self._max_metrics, failed=False)
        return 0

    def _send_event(self, client: TrackingClient, run_id: str, event: Event) -> None:
        data = event.data
        match event.kind:
            case "config":
                client.log_params(run_id, flatten(data))
            case "params":
                client.log_params(run_id, {safe_name(name): param_text(value) for name, value in data.items()})
            case "tags":
                client.set_tags(run_id, {name: param_text(value) for name, value in data.items()})
            case "dataset":
                client.log_dataset(run_id, **data)
            case "artifact":
                client.log_artifact(run_id, self.run_dir / data["path"], data["folder"])
            case "status":
                client.set_status(run_id, data["status"], event.time)

    def _acknowledge(self, sending: Sending, num_refused: int) -> None:
        with self._changed:
            if self._stopped:
                return
            self._check_lock()
            self._acknowledged = Acknowledged(
                offset=self._acknowledged.offset if sending.end is None else sending.end,
                refused=self._acknowledged.refused + num_refused,
            )
            save_acknowledged(self.run_dir, self._acknowledged)
            self._changed.notify_all()


def new_run(uri: str, experiment: str, run_name: str) -> MirrorRun:
    """A run that MLflow has not seen yet."""
    return MirrorRun(uri=uri, experiment=experiment, run_name=run_name, token=uuid.uuid4().hex)
