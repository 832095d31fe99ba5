"""Every tracking error survives a pickle, says what to do and has the exit code of its kind."""

from __future__ import annotations

import inspect
import pickle

import pytest

from metadist.tracking import errors

EXAMPLES = [
    (errors.JournalCorrupt("/run/journal.jsonl", 12, "not JSON"), 65, "byte 12"),
    (errors.JournalOffsetInvalid("/run/journal.jsonl", 12, 10), 65, "(10 bytes)"),
    (errors.JournalMissing("/run"), 65, "/run has no journal.jsonl"),
    (errors.JournalWriteFailed("/run/journal.jsonl", "no space left"), 69, "no space left"),
    (errors.TrackingUnavailable("http://mlflow:5000", "refused"), 69, "http://mlflow:5000"),
    (errors.TrackingDenied("http://mlflow:5000", "HTTP 401"), 69, "MLFLOW_TRACKING_TOKEN"),
    (errors.SendingTakenOver("/run"), 75, "/run"),
    (errors.TrackingUriRefused("./mlruns", "no folders"), 78, "no folders"),
    (errors.EventRefused("bad name"), 65, "bad name"),
    (errors.TrackingError("another process"), 69, "another process"),
]


@pytest.mark.parametrize(("error", "code", "words"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_message_code_and_pickle(error: errors.TrackingError, code: int, words: str) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert words in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == code


def test_every_class_has_an_example() -> None:
    classes = {
        member for _, member in inspect.getmembers(errors, inspect.isclass) if issubclass(member, errors.TrackingError)
    }
    assert classes == {type(error) for error, _, _ in EXAMPLES}
