"""Items and work functions for the tests of the groups; importable in the workers."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster import Event, LocalGroup, Partial, PlaceFailure, Vector, WorkFunction, worker_context

SHARED = np.linspace(-2, 2, 40_000, dtype=np.float32)  # travels as an object


@dataclass(frozen=True, slots=True)
class Piece:
    """One item; ``folder`` is where marks about it are left."""

    index: int
    folder: str = ""
    kind: str = "train"

    def describe(self) -> str:
        """Its name in messages."""
        return f"piece {self.index} of {self.kind}"


def pieces(count: int, folder: Path | None = None) -> list[Piece]:
    """Items 0..count-1."""
    return [Piece(index, str(folder) if folder else "") for index in range(count)]


def numbers(version: int, shared: Vector, item: Piece) -> Partial:
    """Values whose float32 sum depends on the order of the additions."""
    rng = np.random.default_rng((version, item.index))
    scale = np.float32(10.0) ** rng.integers(-6, 7, size=shared.size).astype(np.float32)
    vector = (shared + rng.standard_normal(shared.size, dtype=np.float32)) * scale
    loss = float(vector.astype(np.float64).sum())
    return Partial(vector=vector, metrics={"loss": (loss, 3.0)}, count=3)


def number_factory() -> WorkFunction:
    """Of ``numbers``."""
    return numbers


def expected_bits(version: int, count: int) -> bytes:
    """The sum of an undisturbed call."""
    return LocalGroup(number_factory).reduce(version, SHARED, pieces(count)).vector.tobytes()


def told(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """The details of the events of one kind."""
    return [dict(event.detail) for event in events if event.kind == kind]


def mark(folder: str, name: str) -> bool:
    """Leaves a file behind; True for the one process that made it. False for items without a folder."""
    if not folder:
        return False
    try:
        os.close(os.open(Path(folder) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class SuicideFactory:
    """The worker kills itself with SIGKILL in the middle of item ``index``, ``times`` times."""

    indices: tuple[int, ...]
    times: int = 1

    def __call__(self) -> WorkFunction:
        """Builds the work function."""

        def work(version: int, shared: Vector, item: Piece) -> Partial:
            if item.index in self.indices:
                for n in range(self.times):
                    if mark(item.folder, f"died-{version}-{item.index}-{n}"):
                        os.kill(os.getpid(), signal.SIGKILL)
            return numbers(version, shared, item)

        return work


@dataclass(frozen=True)
class HoldFactory:
    """Tells its pid to the pipe ``begun-INDEX`` when an item begins the first time, and holds it for ever."""

    indices: tuple[int, ...]

    def __call__(self) -> WorkFunction:
        """Builds the work function."""

        def work(version: int, shared: Vector, item: Piece) -> Partial:
            if item.index in self.indices and mark(item.folder, f"held-{version}-{item.index}"):
                (Path(item.folder) / f"begun-{item.index}").write_text(str(os.getpid()))
                signal.pause()
            return numbers(version, shared, item)

        return work


class Stubborn(Exception):
    """An exception that does not pickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"stubborn {one} {two}")
        self.lock = threading.Lock()  # what makes it unpicklable


@dataclass(frozen=True)
class BrokenLater:
    """A factory that raises where ``folder`` holds a file ``broken``."""

    folder: Path

    def __call__(self) -> WorkFunction:
        if (self.folder / "broken").exists():
            raise LookupError("no store on this node")
        return number_factory()


@dataclass(frozen=True)
class RaiseFactory:
    """Item ``index`` raises: 'value', 'stubborn', 'place' (always), 'place-once', 'memory-once', 'result'."""

    index: int
    how: str

    def __call__(self) -> WorkFunction:
        """Builds the work function."""

        def work(version: int, shared: Vector, item: Piece) -> Any:
            if item.index != self.index:
                return numbers(version, shared, item)
            match self.how:
                case "value":
                    raise ValueError("a wrong value")
                case "stubborn":
                    raise Stubborn(1, 2)
                case "write":
                    shared[0] = 1.0
                case "place":
                    raise PlaceFailure("no room here")
                case "place-once" if mark(item.folder, "failed-once"):
                    raise PlaceFailure("no room here")
                case "memory-once" if mark(item.folder, "failed-once"):
                    raise MemoryError
                case "result":
                    return threading.Lock()
            return numbers(version, shared, item)

        return work


def broken_factory() -> WorkFunction:
    """Raises."""
    raise LookupError("no such model: conv5")


def context_factory() -> WorkFunction:
    """Returns what the worker knows of itself, as the factory and as the work function see it."""
    at_start = worker_context()

    def work(version: int, shared: Vector, item: Piece) -> Any:
        environment = os.environ.get("CLUSTER_TEST_VALUE")
        return at_start, worker_context(), environment, shared.flags.writeable

    return work


@dataclass(frozen=True)
class LiarFactory:
    """The first run of item 0 waits for the second one, then gives other numbers."""

    def __call__(self) -> WorkFunction:
        """Builds the work function; the pipe ``go`` lies in the items' folder."""

        def work(version: int, shared: Vector, item: Piece) -> Partial:
            if item.index != 0:
                return numbers(version, shared, item)
            if mark(item.folder, "first"):
                (Path(item.folder) / "go").read_text()  # until the second run writes
                return numbers(version + 1, shared, item)
            (Path(item.folder) / "go").write_text("now")
            return numbers(version, shared, item)

        return work


@dataclass(frozen=True)
class SlowStartFactory:
    """The work function takes ``seconds`` to build, as a compilation does."""

    seconds: float

    def __call__(self) -> WorkFunction:
        """Builds the work function."""
        threading.Event().wait(self.seconds)
        return numbers


@dataclass(frozen=True)
class OddFactory:
    """The first process that builds its work function computes other bits than the rest; also without a canary."""

    folder: str

    def __call__(self) -> WorkFunction:
        """Builds the work function."""
        if not mark(self.folder, "odd"):
            return numbers
        return lambda version, shared, item: numbers(version + 1, shared, item)


@dataclass(frozen=True)
class StillbornFactory:
    """Kills its process while it builds, ``times`` times."""

    folder: str
    times: int

    def __call__(self) -> WorkFunction:
        """Builds the work function."""
        if any(mark(self.folder, f"stillborn-{n}") for n in range(self.times)):
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers


@dataclass(frozen=True)
class StopFactory:
    """Item ``index`` stops its own process with SIGSTOP, at most ``times`` times a call."""

    index: int
    times: int = 1

    def __call__(self) -> WorkFunction:
        """Builds the work function."""

        def work(version: int, shared: Vector, item: Piece) -> Partial:
            if item.index == self.index and any(mark(item.folder, f"{version}-{n}") for n in range(self.times)):
                os.kill(os.getpid(), signal.SIGSTOP)
            return numbers(version, shared, item)

        return work


@dataclass(frozen=True)
class UnluckyFactory:
    """Every item takes ``seconds``; the first run of item ``memory`` in a call has no memory. -1: none."""

    seconds: float
    memory: int = -1

    def __call__(self) -> WorkFunction:
        """Builds the work function."""

        def work(version: int, shared: Vector, item: Piece) -> Partial:
            threading.Event().wait(self.seconds)
            if item.index == self.memory and mark(item.folder, f"memory-{version}"):
                raise MemoryError
            return numbers(version, shared, item)

        return work
