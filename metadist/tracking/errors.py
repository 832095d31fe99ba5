"""The error tree of tracking; exit codes as in `metadist.errors`.

```
TrackingError
+-- JournalCorrupt        65   a line of the journal that is not its last cannot be read
+-- JournalOffsetInvalid  65   a byte offset is not the start of a line of this journal
+-- JournalMissing        65   the run folder has no journal
+-- JournalWriteFailed    69   the disk did not take a line (full, read-only)
+-- TrackingUnavailable   69   the tracking server or database cannot be used now
|   +-- TrackingDenied    69   it does not accept our credentials, or allows us too little
+-- SendingTakenOver      75   another driver has taken the run folder over, and sends
+-- TrackingUriRefused    78   the tracking URI is of a kind that cannot be used
+-- EventRefused          65   the server will never accept one event; the mirror counts it and goes on
```
Every class passes its fields to ``Exception.__init__``, so that it survives a pickle, and makes its message
from them.
"""

from __future__ import annotations

from metadist.errors import MetadistError
from metadist.tracking.secret import without_password


class TrackingError(MetadistError):
    """Base of the errors of journal and mirror."""

    exit_code = 69


class JournalCorrupt(TrackingError):
    """A whole line of the journal is not an event. (Opening a journal cuts off a torn *last* line.)"""

    exit_code = 65

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(path, offset, reason)
        self.path, self.offset, self.reason = path, offset, reason

    def __str__(self) -> str:
        return (
            f"the journal {self.path} is damaged at byte {self.offset} ({self.reason}): "
            "restore the file from a copy, or resume from a checkpoint made before that byte"
        )


class JournalOffsetInvalid(TrackingError):
    """A byte offset does not begin a line of this journal."""

    exit_code = 65

    def __init__(self, path: str, offset: int, size: int) -> None:
        super().__init__(path, offset, size)
        self.path, self.offset, self.size = path, offset, size

    def __str__(self) -> str:
        return (
            f"byte {self.offset} does not begin a line of the journal {self.path} ({self.size} bytes): "
            "the checkpoint and the journal are not of the same run, or the journal was edited"
        )


class JournalMissing(TrackingError):
    """There is no journal in the folder."""

    exit_code = 65

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir)
        self.run_dir = run_dir

    def __str__(self) -> str:
        return f"{self.run_dir} has no journal.jsonl: it is not a run folder, or its run never started"


class JournalWriteFailed(TrackingError):
    """The operating system did not take a whole line; the journal still ends with the line before."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"cannot write to {self.path} ({self.reason}): make room or repair the disk, then resume"


class TrackingUnavailable(TrackingError):
    """The tracking server or database did not answer in time, or failed."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return (
            f"MLflow at {without_password(self.uri)} cannot be used now ({self.reason}): start or repair it, correct "
            "tracking.uri or MLFLOW_TRACKING_URI, or set tracking.required to false and run `metadist sync` later"
        )


class TrackingDenied(TrackingUnavailable):
    """The server turned us away; asking again with the same credentials is of no use."""

    def __str__(self) -> str:
        return (
            f"MLflow at {without_password(self.uri)} turned us away ({self.reason}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to an account that may write this experiment, and "
            "look at the server's --allowed-hosts; then `metadist sync` sends what is missing"
        )


class SendingTakenOver(TrackingError):
    """This process did not answer for so long that another driver took over the run folder, and its sending."""

    exit_code = 75

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir)
        self.run_dir = run_dir

    def __str__(self) -> str:
        return f"another driver has taken {self.run_dir} over and sends it to MLflow; nothing more is sent from here"


class TrackingUriRefused(TrackingError):
    """The tracking URI is of a kind that MLflow or metadist does not support."""

    exit_code = 78

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return (
            f"the tracking URI {without_password(self.uri)!r} (tracking.uri, --uri or MLFLOW_TRACKING_URI) cannot be "
            f"used: {self.reason}"
        )


class EventRefused(TrackingError):
    """The server answered that it will never accept this event; sending it again is of no use."""

    exit_code = 65

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"MLflow refused an event: {self.reason}"
