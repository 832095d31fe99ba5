"""Every error pickles with its type, message and fields; failures travel whatever was raised."""

from __future__ import annotations

import errno
import pickle

import pytest

import cluster.errors
from cluster import (
    AddressRefused,
    ClusterError,
    ClusterUnavailable,
    ContractViolation,
    GroupStartTimeout,
    PlaceFailure,
    ResultsDiffer,
    ShardFailed,
    ShardPoisoned,
    WorkersLost,
    WorkerStartFailed,
)
from cluster.failure import capture
from tests.ray.work import Stubborn

ERRORS: list[Exception] = [
    ClusterError("plain"),
    ContractViolation("broken rule"),
    AddressRefused("ray://head:10001"),
    PlaceFailure("no room"),
    ClusterUnavailable(address="10.0.0.1:6379", reason="refused", auth_mode=None),
    GroupStartTimeout(ready=2, needed=4, timeout_s=3.0, asked="4 workers x 1 CPU", has="2 CPU (0 free)", last="none"),
    WorkerStartFailed(worker="w0", error_type="LookupError", message="conv5", remote_traceback="Traceback"),
    ShardFailed(
        version=417,
        index=3,
        describe="tasks 12..15",
        error_type="ValueError",
        message="wrong",
        remote_traceback="Traceback (most recent call last):",
        worker="w1",
    ),
    ShardPoisoned(version=1, index=2, describe="tasks 8..11", attempts=3, reasons=("w0, x", "w1, y")),
    ResultsDiffer(version=1, index=2, describe="tasks 8..11", workers=("w0", "w1")),
    WorkersLost(alive=0, needed=1, restarts=8, window_s=600.0, last_reason="OutOfMemoryError"),
]


def test_every_class_is_in_the_table() -> None:
    defined = {
        value for value in vars(cluster.errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == {type(error) for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_pickle(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_messages_say_what_where_and_what_to_do() -> None:
    text = {type(error): str(error) for error in ERRORS}
    assert "RAY_AUTH_MODE" in text[ClusterUnavailable] and "RAY_AUTH_TOKEN" in text[ClusterUnavailable]
    assert "10.0.0.1:6379" in text[ClusterUnavailable]
    assert "4 workers x 1 CPU" in text[GroupStartTimeout] and "2 CPU (0 free)" in text[GroupStartTimeout]
    for part in ("version 417", "item 3", "tasks 12..15", "ValueError", "Traceback", "w1"):
        assert part in text[ShardFailed]
    assert "1. w0, x; 2. w1, y" in text[ShardPoisoned]


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_an_ordinary_exception_travels_whole() -> None:
    failure = pickle.loads(pickle.dumps(capture(raised(ValueError("wrong", 3)))))
    assert (failure.error_type, failure.place) == ("ValueError", False)
    assert "raise error" in failure.remote_traceback
    original = failure.original()
    assert isinstance(original, ValueError) and original.args == ("wrong", 3)


def test_an_exception_that_does_not_pickle_travels_as_text() -> None:
    failure = pickle.loads(pickle.dumps(capture(raised(Stubborn(1, 2)))))
    assert failure.error_type == "tests.ray.work.Stubborn"
    assert failure.message == "stubborn 1 2"
    assert failure.original() is None


class WrongArguments(Exception):
    """Pickles, and does not load again: its constructor takes two arguments, its args hold one."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one}{two}")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot say")


def test_exceptions_with_odd_constructors_or_strings_travel() -> None:
    assert capture(raised(WrongArguments(1, 2))).original() is None
    assert "RuntimeError" in capture(raised(Mute())).message


@pytest.mark.parametrize(("error", "place"), [(MemoryError(), True), (PlaceFailure(), True), (OSError(), False)])
def test_the_place_is_blamed_by_type(error: Exception, place: bool) -> None:
    assert capture(raised(error)).place is place


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "no space left"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (MemoryError(), True),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (OSError("without a number"), False),
        (ValueError("the work"), False),
    ],
)
def test_a_failing_disk_is_the_place(error: Exception, place: bool) -> None:
    assert capture(error).place is place
