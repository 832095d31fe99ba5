"""Checkpoints: whole or invisible. One folder a step, safetensors and JSON, checksummed, published by a rename.

```
RUN/checkpoints/000050/params.safetensors     meta-parameters by leaf name
                       optimizer.safetensors  the outer optimizer's state
                       state.json             step, fingerprints, journal offset, sha256 of both; written last
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from metadist.errors import CheckpointDamaged
from metadist.parameters import Layout, MetaParams, aligned, flatten, named_leaves, unflatten

FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best validation so far."""

    step: int
    metric: str
    value: float
    ci95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a checkpoint holds beside the tensors.

    Attributes:
        step: Finished outer steps.
        journal_offset: Bytes of the journal that belong to these steps.
        params_sha256: Of the flat vector.
        layout: Leaf names and shapes.
        best: Best validation so far.
        files: sha256 by file name.
    """

    step: int
    journal_offset: int
    params_sha256: str
    layout: list[list[Any]]
    best: Best | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: parameters in aligned memory."""

    state: State
    meta: MetaParams
    optimizer: dict[str, Tensor]

    @property
    def flat(self) -> NDArray[np.float32]:
        return flatten(self.meta)


def save_checkpoint(
    run_dir: Path, state: State, flat: NDArray[np.float32], layout: Layout, optimizer: Mapping[str, Tensor]
) -> Path:
    """Write the checkpoint of ``state.step`` and return its folder; a reader sees all of it or nothing."""
    root = run_dir / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"{state.step:06d}"
    temporary = root / f".{state.step:06d}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    blobs = {
        "params.safetensors": save(dict(named_leaves(unflatten(flat, layout)))),
        "optimizer.safetensors": save({name: leaf.contiguous() for name, leaf in optimizer.items()}),
    }
    files = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    blobs["state.json"] = json.dumps({**asdict(state), "files": files}, indent=1).encode()
    for name, blob in blobs.items():
        _write(temporary / name, blob)
    _sync_folder(temporary)
    if final.exists():  # the same step again after a resume: the same bits, so either copy will do
        shutil.rmtree(final)
    temporary.rename(final)
    _sync_folder(root)
    return final


def prune(run_dir: Path, *, keep: int, best_step: int | None) -> None:
    """Remove all but the last ``keep`` checkpoints and the best one, and what an interrupted save left."""
    for path in (run_dir / FOLDER).glob(".*"):
        shutil.rmtree(path)
    for step in steps(run_dir)[:-keep]:
        if step != best_step:
            shutil.rmtree(run_dir / FOLDER / f"{step:06d}")


def steps(run_dir: Path) -> list[int]:
    """Steps that have a checkpoint folder, oldest first."""
    return sorted(int(path.name) for path in (run_dir / FOLDER).glob("[0-9]*"))


def load_checkpoint(run_dir: Path, step: int) -> Checkpoint:
    """The checkpoint of ``step``, every byte checked.

    Raises:
        CheckpointDamaged: it is missing, or a file is not what was written.
    """
    folder = run_dir / FOLDER / f"{step:06d}"
    try:
        raw = json.loads((folder / "state.json").read_text())
        best = raw.pop("best")
        state = State(**raw, best=None if best is None else Best(**best))
        blobs = {name: (folder / name).read_bytes() for name in state.files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"checkpoint {folder} cannot be read: {error}") from None
    for name, blob in blobs.items():
        digest = hashlib.sha256(blob).hexdigest()
        if digest != state.files[name]:
            raise CheckpointDamaged(
                f"checkpoint file {folder / name} is damaged: sha256 {digest[:12]}, written as {state.files[name][:12]}"
            )
    meta = _tree(load(blobs["params.safetensors"]), [str(name) for name, _ in state.layout])
    return Checkpoint(state, meta, load(blobs["optimizer.safetensors"]))


def newest_whole(run_dir: Path, on_damage: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; ``on_damage`` hears of each that is not. None where there is none."""
    for step in reversed(steps(run_dir)):
        try:
            return load_checkpoint(run_dir, step)
        except CheckpointDamaged as error:
            on_damage(f"{error}; falling back to the checkpoint before")
    return None


def _tree(loaded: Mapping[str, Tensor], names: list[str]) -> MetaParams:
    split: dict[str, dict[str, Tensor]] = {"model": {}, "inner": {}}
    for name in names:
        kind, _, short = name.partition(".")
        split[kind][short] = aligned(loaded[name])  # safetensors' own memory is not aligned
    return MetaParams(split["model"], split["inner"])


def _write(path: Path, blob: bytes) -> None:
    with path.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
