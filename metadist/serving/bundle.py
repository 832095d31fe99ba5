"""The bundle: one folder that holds all that a model needs to adapt, and the evidence for it. No pickle.

```
bundle.json            configuration, task, raw columns, fingerprints, figures, sha256 of every file below
weights.safetensors    meta-learned leaves       frozen.safetensors   frozen leaves, where there are any
report.json, tasks.npz evaluation on the fixed test tasks, computed by the served function itself
selftest.npz           some of these tasks, raw, with the answers that must come back
transforms.npz         what fitted transforms learned, where there are any
encoder/               shape of a pretrained encoder, whose weights are in the files above
user_code/             source of the user's own model, algorithm, objective and transforms
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metadist.config import RunConfig
from metadist.errors import DataError
from metadist.serving.inputs import RawColumn
from metadist.tasks import TaskSpec

FORMAT_VERSION = 1
FACTS = "bundle.json"
WEIGHTS = "weights.safetensors"
FROZEN = "frozen.safetensors"
ENCODER = "encoder"
SELF_TEST = "selftest.npz"
TRANSFORMS = "transforms.npz"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and found whole.

    Attributes:
        folder: Where it lies.
        facts: ``bundle.json``.
        config: The configuration of its run.
    """

    folder: Path
    facts: Mapping[str, Any]
    config: RunConfig

    @property
    def id(self) -> str:
        """SHA-256 of ``bundle.json``, which holds that of every other file."""
        return bundle_id(self.facts)

    @property
    def spec(self) -> TaskSpec:
        """The tasks that it was trained on."""
        spec = dict(self.facts["task"])
        return TaskSpec(**{**spec, "input_shape": tuple(spec["input_shape"])})

    @property
    def input(self) -> RawColumn:
        """The raw inputs that it takes."""
        return RawColumn.from_json(self.facts["input"])

    @property
    def target(self) -> RawColumn | None:
        """The targets of a regression; None where it classifies."""
        target = self.facts["target"]
        return None if target is None else RawColumn.from_json(target)

    @property
    def report(self) -> dict[str, Any]:
        """Its evaluation, as ``metadist evaluate --json`` prints it."""
        read: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return read


def bundle_id(facts: Mapping[str, Any]) -> str:
    """Identity of a bundle by content; neither time nor place is part of it."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below ``folder`` but ``bundle.json``, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != FACTS and "__pycache__" not in path.parts
    }


def bundle_in(folder: Path) -> Path:
    """The bundle's own folder: a logged model keeps it among its artifacts."""
    inside = sorted(folder.glob(f"artifacts/*/{FACTS}"))
    return inside[0].parent if inside else folder


def read_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``, every file checked.

    Raises:
        DataError: it is not a bundle, it is damaged, or a newer metadist made it.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        version, files, tree = facts["format_version"], facts["files"], facts["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is not a model bundle: {FACTS} cannot be read ({error})") from None
    if version > FORMAT_VERSION:
        raise DataError(
            f"{folder} has bundle format {version}, this metadist reads up to {FORMAT_VERSION}; upgrade metadist "
            f"(it was made by {facts.get('metadist_version')})"
        )
    found = file_hashes(folder)
    for name, digest in files.items():
        if found.get(name) != digest:
            what = "is missing" if name not in found else f"is damaged: sha256 {found[name][:12]}"
            raise DataError(f"bundle file {folder / name} {what}, written as {digest[:12]}")
    try:
        return Bundle(folder, facts, RunConfig.model_validate(tree))
    except ValidationError as error:
        raise DataError(
            f"{folder} was made by metadist {facts.get('metadist_version')}, whose configuration this one cannot "
            f"read: {error.errors()[0]['msg']}"
        ) from None


@contextmanager
def published(final: Path) -> Iterator[Path]:
    """A temporary folder beside ``final`` that takes its name when the block ends well; a crash leaves nothing."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``bundle.json``, last, with the hashes of all that lies in ``folder``."""
    whole = {"format_version": FORMAT_VERSION, **facts, "files": file_hashes(folder)}
    (folder / FACTS).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
