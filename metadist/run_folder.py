"""The run folder: what it was made from, and whether a resume may continue it.

```
RUN/resolved.yaml       the resolved configuration        RUN/journal.jsonl   everything that happened
    fingerprint.json    what the numbers depend on            checkpoints/    whole or invisible
    owner.json          the driver at work (`ownership`)      evaluation/     reports with per-task scores
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metadist import numerics
from metadist.config import RunConfig
from metadist.durable import write_atomically
from metadist.errors import ConfigError, DataError, FingerprintMismatch
from metadist.settings import dump, load_config, numbers_of

RESOLVED = "resolved.yaml"
FINGERPRINT = "fingerprint.json"


def is_used(run_dir: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (run_dir / FINGERPRINT).is_file()


def begin(run_dir: Path, config: RunConfig, record: Mapping[str, Any], data: str, extra: Mapping[str, Any]) -> None:
    """Write what the run is made from. ``fingerprint.json`` comes last and makes the folder a run."""
    write_atomically(run_dir / RESOLVED, dump(config))
    text = json.dumps({"numbers": numbers_of(config), "numerics": dict(record), "data": data, **extra}, indent=1)
    write_atomically(run_dir / FINGERPRINT, text)


def read_fingerprint(run_dir: Path) -> dict[str, Any]:
    """What the run was made from.

    Raises:
        DataError: the folder holds no run.
    """
    try:
        read: dict[str, Any] = json.loads((run_dir / FINGERPRINT).read_text())
    except (OSError, ValueError):
        raise DataError(f"{run_dir} is not a run folder: it has no readable {FINGERPRINT}") from None
    return read


def read_config(run_dir: Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The resolved configuration of a run."""
    read_fingerprint(run_dir)
    return load_config(str(run_dir / RESOLVED), overrides)


def check_resume(
    run_dir: Path, config: RunConfig, record: Mapping[str, Any], data: str, *, accept_numerics: bool
) -> list[str]:
    """Refuse to continue a run whose numbers would differ; returns numerics differences that were accepted.

    Raises:
        FingerprintMismatch: names every key with both values.
    """
    old = read_fingerprint(run_dir)
    changed = numerics.difference(old["numbers"], json.loads(json.dumps(numbers_of(config))))
    if changed:
        raise FingerprintMismatch(f"{run_dir} was made by another configuration: {'; '.join(changed)}")
    if old["data"] != data:
        raise FingerprintMismatch(f"{run_dir} was trained on other data: store {old['data'][:12]}, now {data[:12]}")
    numeric = numerics.difference(old["numerics"], record)
    if numeric and not accept_numerics:
        raise FingerprintMismatch(
            f"{run_dir} was computed under other numerics: {'; '.join(numeric)}; the bits would differ from an "
            "undisturbed run. --accept-numerics goes on all the same, and the run says so"
        )
    return numeric


def refuse_used(run_dir: Path, config: RunConfig) -> None:
    """Refuse a fresh start in a folder that holds a run."""
    if not is_used(run_dir):
        return
    old = read_fingerprint(run_dir)["numbers"]
    changed = numerics.difference(old, json.loads(json.dumps(numbers_of(config))))
    which = f"by another configuration ({'; '.join(changed)})" if changed else "by this configuration"
    cure = "choose another --run-dir" if changed else "--resume continues it, another --run-dir starts afresh"
    raise ConfigError(f"{run_dir} is already used {which}; {cure}")
