"""The run folder: what it was made from, and whether a resume may continue it.

```
RUN/resolved.yaml       the resolved configuration        RUN/journal.jsonl   everything that happened
    fingerprint.json    what the numbers depend on            checkpoints/    whole or invisible
    owner.json          the driver at work (`ownership`)      evaluation/     reports with per-task scores
    failed.json         only where it failed for good (`failed`)
```
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from metadist import numerics
from metadist.config import RunConfig
from metadist.config.fingerprint import CODE, code_of, numbers_of
from metadist.config.load import dump, load_config
from metadist.durable import DISK_ERRNOS, write_atomically, writing
from metadist.errors import ConfigError, DataError, FingerprintMismatch, SaveFailed, UsageError
from metadist.tracking import without_password

RESOLVED = "resolved.yaml"
FINGERPRINT = "fingerprint.json"
HINTS = {
    "outer.num_steps": " (a schedule, multi_step, second_order_from or an algorithm of your own goes by it)",
    "engine.compile": " (auto follows outer.num_steps; write the old value to keep it)",
}


def is_used(run_dir: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (run_dir / FINGERPRINT).is_file()


@contextmanager
def made(run_dir: Path) -> Iterator[None]:
    """Make the folder, and say of what the disk refuses inside the block what became of the run.

    Raises:
        UsageError: a file is in its place, or above it.
        SaveFailed: it cannot be made, or not be written.
    """
    try:
        _make(run_dir, exist_ok=True)
        with writing(run_dir, only=DISK_ERRNOS):
            yield
    except SaveFailed as error:
        if not error.begun or is_used(run_dir):
            raise
        raise SaveFailed(error.path, error.reason, begun=False) from error.__cause__


def make_new(run_dir: Path) -> Path:
    """Make a folder that was not there, of this name or the next one: ``-2``, ``-3``, ..."""
    for number in count(1):
        path = run_dir if number == 1 else run_dir.with_name(f"{run_dir.name}-{number}")
        try:
            _make(path, exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError("count ends")


def _make(run_dir: Path, *, exist_ok: bool) -> None:
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(exist_ok=exist_ok)
    except OSError as error:
        in_the_way = [path for path in (run_dir, *run_dir.parents) if os.path.lexists(path) and not os.path.isdir(path)]
        if in_the_way:
            raise UsageError(
                f"{in_the_way[0]} is a file, so {run_dir} cannot be a run folder; choose another"
            ) from None
        if isinstance(error, FileExistsError):
            raise
        raise SaveFailed(str(run_dir), error.strerror or str(error), begun=False) from error


def begin(run_dir: Path, config: RunConfig, record: Mapping[str, Any], data: str, extra: Mapping[str, Any]) -> None:
    """Write what the run is made from. ``fingerprint.json`` comes last and makes the folder a run."""
    write_atomically(run_dir / RESOLVED, dump(config))
    text = json.dumps({"numbers": numbers_of(config), "numerics": dict(record), "data": data, **extra}, indent=1)
    write_atomically(run_dir / FINGERPRINT, text)


def readable(config: RunConfig) -> RunConfig:
    """As others may read it: a tracking URI with a password stays in the run folder."""
    uri = config.tracking.uri
    if uri is None or without_password(uri) == uri:
        return config
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": None})})


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


def move_tracking(run_dir: Path, uri: str) -> None:
    """The run is tracked at ``uri`` from now on, also where its configuration names another place."""
    config = read_config(run_dir)
    if config.tracking.uri not in (None, uri):
        moved = config.tracking.model_copy(update={"uri": uri})
        write_atomically(run_dir / RESOLVED, dump(config.model_copy(update={"tracking": moved})))


def check_resume(
    run_dir: Path,
    config: RunConfig,
    record: Mapping[str, Any],
    data: str,
    *,
    accept: Collection[str] = (),
    accept_numerics: bool = False,
) -> dict[str, str]:
    """Refuse to continue a run whose numbers would differ; returns the differences that were accepted, by name.

    Args:
        run_dir: A folder that holds a run.
        config: The configuration to go on with.
        record: The numerics record of this process.
        data: Fingerprint of the data.
        accept: Names of configuration keys and of the numerics record that may differ.
        accept_numerics: The whole numerics record may differ.

    Raises:
        FingerprintMismatch: names every key with both values.
        UsageError: a name in ``accept`` is not one that is compared.
    """
    old, numbers = read_fingerprint(run_dir), _plain(numbers_of(config))
    check_names(accept, {*old["numbers"], *numbers, *old["numerics"], *record})
    changed = numerics.difference(_numbers_before(run_dir), numbers)
    numeric = numerics.difference(old["numerics"], record)
    refused = {name: text for name, text in changed.items() if name not in accept}
    refused_numeric = {name: text for name, text in numeric.items() if name not in accept and not accept_numerics}
    reasons = []
    if refused:
        reasons.append(f"made by another configuration: {_listed(refused)}")
    if old["data"] != data:
        reasons.append(f"trained on other data: store {old['data'][:12]}, now {data[:12]} (which cannot be accepted)")
    if refused_numeric:
        reasons.append(f"computed under other numerics: {_listed(refused_numeric)}")
    if reasons:
        names = ",".join([*refused, *refused_numeric])
        cure = f"; --accept {names} goes on all the same, and the run says so" if names else ""
        if refused_numeric:
            cure += " (--accept-numerics accepts all of the numerics)"
        raise FingerprintMismatch(
            f"{run_dir} was {'; it was '.join(reasons)}. An undisturbed run would have other bits: "
            f"another --run-dir starts afresh{cure}"
        )
    return {**changed, **numeric}


def check_fitted(run_dir: Path, digest: str) -> None:
    """Refuse transforms that learned something else than those of the run, although nothing that they are configured
    by has changed.

    Raises:
        FingerprintMismatch: with both digests.
    """
    before = read_fingerprint(run_dir).get("transforms", "")
    if before != digest:
        raise FingerprintMismatch(
            f"{run_dir} was trained with transforms that had learned {before[:12] or 'nothing'} from the training "
            f"split, here they learn {digest[:12] or 'nothing'}: another version of metadist, or a fit of your own "
            "that does not follow from its values alone; another --run-dir starts afresh"
        )


def check_names(accept: Collection[str], known: Collection[str]) -> None:
    """Refuse to accept a difference in something that is not compared.

    Raises:
        UsageError: with the names that are known.
    """
    for name in accept:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"--accept {name}: no such key is compared on resume{hint} (known: {', '.join(sorted(known))})"
            )


def refuse_used(run_dir: Path, config: RunConfig) -> None:
    """Refuse a fresh start in a folder that holds a run."""
    if not is_used(run_dir):
        return
    changed = numerics.difference(_numbers_before(run_dir), _plain(numbers_of(config)))
    which = f"by another configuration ({_listed(changed)})" if changed else "by this configuration"
    cure = "choose another --run-dir" if changed else "--resume continues it, another --run-dir starts afresh"
    raise ConfigError(f"{run_dir} is already used {which}; {cure}")


def _numbers_before(run_dir: Path) -> dict[str, Any]:
    """What the run's numbers depend on. A key that is younger than it has its default: what it did without one."""
    before = read_fingerprint(run_dir)["numbers"]
    now = _plain(numbers_of(read_config(run_dir)))
    if any(name.startswith(CODE) for name in before):  # a file of source that is younger is a difference
        now = {name: value for name, value in now.items() if not name.startswith(CODE)}
    return {**now, **before}


def changed_code(run_dir: Path, config: RunConfig) -> tuple[str, ...]:
    """Files of the user's own source that are not what they were when the run was trained."""
    before = {name: value for name, value in read_fingerprint(run_dir)["numbers"].items() if name.startswith(CODE)}
    return tuple(name.removeprefix(CODE) for name in numerics.difference(before, code_of(config)))


def _listed(differences: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {text}{HINTS.get(name, '')}" for name, text in differences.items())


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """As a file gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(numbers))
    return plain
