"""What the mirror keeps in the run folder, so that another process can go on where it stopped.

```
mlflow.json               where the run is: URI, experiment, name, token, and the run id once MLflow gave one
mlflow.offset             up to which byte MLflow has the journal, and how many events it refused
mlflow.rolled_back.jsonl  metrics that MLflow may have and that resume dropped from the journal
```
Each is replaced atomically (temporary file, fsync, rename).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from metadist.durable import write_atomically
from metadist.tracking.events import JOURNAL_NAME, decode, read_events, undamaged

RUN_NAME = "mlflow.json"
OFFSET_NAME = "mlflow.offset"
ROLLED_BACK_NAME = "mlflow.rolled_back.jsonl"

MEASURED = ("perf/", "system/")
"""Metrics that measure the machine: a step that is computed again gives other numbers."""

FirstSent = dict[tuple[str, int, str], tuple[int, float]]
"""`sent_key` -> milliseconds and value under which MLflow was first told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRun:
    """Where a run is mirrored to.

    Attributes:
        uri: The tracking URI, absolute.
        experiment: The experiment's name.
        run_name: The name shown in MLflow.
        token: A tag value made before the run is, by which it is found if its id was never received.
        run_id: MLflow's id; empty until MLflow has answered.
    """

    uri: str
    experiment: str
    run_name: str
    token: str
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """How far MLflow has the journal: a byte offset, and how many events before it MLflow refused."""

    offset: int = 0
    refused: int = 0


def load_run(run_dir: Path) -> MirrorRun | None:
    """The mirrored run of a run folder; None if no mirror ever ran there."""
    path = run_dir / RUN_NAME
    if not path.is_file():
        return None
    return MirrorRun(**json.loads(path.read_text(encoding="utf-8")))


def save_run(run_dir: Path, run: MirrorRun) -> None:
    """Keep where the run is mirrored to."""
    write_atomically(run_dir / RUN_NAME, json.dumps(asdict(run), indent=1) + "\n")


def load_acknowledged(run_dir: Path) -> Acknowledged:
    """How far MLflow has the journal."""
    path = run_dir / OFFSET_NAME
    if not path.is_file():
        return Acknowledged()
    return Acknowledged(**json.loads(path.read_text(encoding="utf-8")))


def save_acknowledged(run_dir: Path, acknowledged: Acknowledged) -> None:
    """Keep how far MLflow has the journal."""
    write_atomically(run_dir / OFFSET_NAME, json.dumps(asdict(acknowledged)) + "\n")


def limit_acknowledged(run_dir: Path, offset: int) -> None:
    """The journal is about to end at this offset: MLflow has it up to there at most."""
    acknowledged = load_acknowledged(run_dir)
    if acknowledged.offset > offset:
        save_acknowledged(run_dir, Acknowledged(offset=offset, refused=acknowledged.refused))


def keep_rolled_back(run_dir: Path, offset: int) -> None:
    """Remember the metrics from this offset on, which resume drops and MLflow may already have.

    Nothing is kept if no mirror ever ran here, nor from a line on that is damaged. Keeping the same lines twice does
    no harm.
    """
    if not (run_dir / RUN_NAME).is_file():
        return
    kept_path, journal = run_dir / ROLLED_BACK_NAME, run_dir / JOURNAL_NAME
    lines = [kept_path.read_text(encoding="ascii")] if kept_path.is_file() else []
    with journal.open("rb") as source:
        source.seek(offset)
        for event in undamaged(read_events(journal, offset)):
            line = source.readline()
            if event.kind == "metrics":
                lines.append(line.decode("ascii"))
    write_atomically(kept_path, "".join(lines))


def sent_key(name: str, step: int, value: float) -> tuple[str, int, str]:
    """What makes two metrics the same point: name, step and value; of a measured one name and step."""
    return name, step, "" if name.startswith(MEASURED) else repr(value)


def load_rolled_back(run_dir: Path) -> FirstSent:
    """The times, and values, under which MLflow may have metrics that are no longer in the journal.

    A resumed run computes the same numbers again, later, and measures others. Sent as they were the first time
    they are the same row to MLflow; else they would be there twice.
    """
    path = run_dir / ROLLED_BACK_NAME
    sent: FirstSent = {}
    if not path.is_file():
        return sent
    for line in path.read_bytes().splitlines():
        event = decode(line, 0)
        for name, value in event.data.items():
            sent.setdefault(sent_key(name, event.step or 0, value), (event.time, value))
    return sent
