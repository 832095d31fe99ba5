"""Tracking: the journal, which is the truth of a run, and its mirror in MLflow.

Importing this package imports no MLflow.
"""

from metadist.tracking.errors import (
    EventRefused,
    JournalCorrupt,
    JournalMissing,
    JournalOffsetInvalid,
    JournalWriteFailed,
    SendingTakenOver,
    TrackingDenied,
    TrackingError,
    TrackingUnavailable,
    TrackingUriRefused,
)
from metadist.tracking.events import JOURNAL_NAME, Event, read_events, undamaged
from metadist.tracking.journal import Journal
from metadist.tracking.mirror import MlflowMirror, SyncReport, sync
from metadist.tracking.secret import without_password
from metadist.tracking.send_lock import break_send_lock
from metadist.tracking.system import SystemMetrics
from metadist.tracking.uri import check_reachable, resolve_tracking_uri, tracking_uri_of

__all__ = [
    "JOURNAL_NAME",
    "Event",
    "EventRefused",
    "Journal",
    "JournalCorrupt",
    "JournalMissing",
    "JournalOffsetInvalid",
    "JournalWriteFailed",
    "MlflowMirror",
    "SendingTakenOver",
    "SyncReport",
    "SystemMetrics",
    "TrackingDenied",
    "TrackingError",
    "TrackingUnavailable",
    "TrackingUriRefused",
    "break_send_lock",
    "check_reachable",
    "read_events",
    "resolve_tracking_uri",
    "sync",
    "tracking_uri_of",
    "undamaged",
    "without_password",
]
