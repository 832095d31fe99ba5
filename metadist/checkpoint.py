"""Checkpoints: whole or invisible. One folder a step, safetensors and JSON, checksummed, published by a rename.

```
RUN/checkpoints/000050/params.safetensors     meta-parameters by leaf name
                       optimizer.safetensors  the outer optimizer's state
                       state.json             step, fingerprints, journal offset, sha256 of all three; written last
                set-aside-000060/     a damaged one that a resume passed over; for a person to look at
```
A name with a dot is something half done: a save on its way in, or an old checkpoint on its way out.
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

from metadist.durable import sync_folder, write_synced, writing
from metadist.errors import CheckpointDamaged, SaveFailed
from metadist.parameters import Layout, MetaParams, aligned, flatten, named_leaves, unflatten

FOLDER = "checkpoints"
BLOBS = ("params.safetensors", "optimizer.safetensors")


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
    run_dir: Path,
    state: State,
    flat: NDArray[np.float32],
    layout: Layout,
    optimizer: Mapping[str, Tensor],
    *,
    before_publish: Callable[[], None] = lambda: None,
) -> Path:
    """Write the checkpoint of ``state.step`` and return its folder; a reader sees all of it or nothing.

    A whole checkpoint of the same step and parameters stays as it is.

    Raises:
        SaveFailed: the disk did not take it; what was saved before is as it was.
    """
    root = run_dir / FOLDER
    final = root / f"{state.step:06d}"
    temporary = root / f".{state.step:06d}.{os.getpid()}"
    blobs = {
        "params.safetensors": save(dict(named_leaves(unflatten(flat, layout)))),
        "optimizer.safetensors": save({name: leaf.contiguous() for name, leaf in optimizer.items()}),
    }
    files = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    described = {**asdict(state), "files": files}
    blobs["state.json"] = json.dumps({**described, "sha256": _digest(described)}, indent=1).encode()
    with writing(root):
        if not steps(run_dir):
            root.mkdir(parents=True, exist_ok=True)
            sync_folder(run_dir)
        _remove_hidden(root, ignore_errors=True)  # what a killed driver left may be what fills the disk
        try:
            temporary.mkdir()
            for name, blob in blobs.items():
                write_synced(temporary / name, blob)
            sync_folder(temporary)
            before_publish()
            if final.exists():
                if _is_same(run_dir, state):
                    return final
                _set_aside(final)
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # not there any more once it is published
        sync_folder(root)
    return final


def prune(run_dir: Path, *, keep: int, best_step: int | None) -> list[str]:
    """Remove all but the last ``keep`` checkpoints and the best one, and what an interrupted save left.

    A folder is hidden by a rename before anything in it is removed, so that no half of a checkpoint is ever seen.

    Returns:
        What could not be removed, in words; the next call tries again.
    """
    root = run_dir / FOLDER
    try:
        old = [step for step in steps(run_dir)[:-keep] if step != best_step]
        for step in old:
            (root / f"{step:06d}").rename(root / f".{step:06d}.old")
        if old:
            sync_folder(root)
        _remove_hidden(root)
    except (OSError, SaveFailed) as error:
        return [f"old checkpoints in {root} cannot be removed ({error}); they take room until the next save"]
    return []


def set_aside(run_dir: Path, *, newer_than: int) -> list[Path]:
    """Rename the checkpoints that a resume passed over, so that nothing counts them among the whole ones.

    Returns:
        Their new folders, ``set-aside-STEP``; nothing removes those.

    Raises:
        SaveFailed: the disk did not take it.
    """
    with writing(run_dir / FOLDER):
        return [_set_aside(run_dir / FOLDER / f"{step:06d}") for step in steps(run_dir) if step > newer_than]


def steps(run_dir: Path) -> list[int]:
    """Steps that have a checkpoint folder, oldest first."""
    return sorted(int(path.name) for path in (run_dir / FOLDER).glob("[0-9]*") if path.name.isdecimal())


def load_checkpoint(run_dir: Path, step: int) -> Checkpoint:
    """The checkpoint of ``step``, every byte checked.

    Raises:
        CheckpointDamaged: it is missing, or a bit of it is not what was written.
    """
    folder = run_dir / FOLDER / f"{step:06d}"
    try:
        raw = json.loads((folder / "state.json").read_text())
        digest = raw.pop("sha256", None)  # None: written before state.json had one
        if digest not in (None, _digest(raw)) or raw["step"] != step:
            raise ValueError("state.json is not what was written")
        best = raw.pop("best")
        state = State(**raw, best=None if best is None else Best(**best))
        blobs = {name: (folder / name).read_bytes() for name in BLOBS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"checkpoint {folder} cannot be read: {error}") from None
    for name, blob in blobs.items():
        digest = hashlib.sha256(blob).hexdigest()
        if digest != state.files.get(name):
            written = str(state.files.get(name))
            raise CheckpointDamaged(
                f"checkpoint file {folder / name} is damaged: sha256 {digest[:12]}, written as {written[:12]}"
            )
    meta = _tree(load(blobs["params.safetensors"]), [str(name) for name, _ in state.layout])
    return Checkpoint(state, meta, load(blobs["optimizer.safetensors"]))


def newest_whole(run_dir: Path, on_damage: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; ``on_damage`` hears of each that is not. None where there is none."""
    for step in reversed(steps(run_dir)):
        try:
            return load_checkpoint(run_dir, step)
        except CheckpointDamaged as error:
            on_damage(f"{error}; falling back to what was saved before it")
    return None


def _tree(loaded: Mapping[str, Tensor], names: list[str]) -> MetaParams:
    split: dict[str, dict[str, Tensor]] = {"model": {}, "inner": {}}
    for name in names:
        kind, _, short = name.partition(".")
        split[kind][short] = aligned(loaded[name])  # safetensors' own memory is not aligned
    return MetaParams(split["model"], split["inner"])


def _digest(described: Mapping[str, Any]) -> str:
    """sha256 of what state.json says, however it is spelt."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _is_same(run_dir: Path, state: State) -> bool:
    try:
        return load_checkpoint(run_dir, state.step).state.params_sha256 == state.params_sha256
    except CheckpointDamaged:
        return False


def _set_aside(folder: Path) -> Path:
    aside = folder.with_name(f"set-aside-{folder.name}")
    if aside.exists():  # of an earlier resume
        shutil.rmtree(aside)
    return folder.rename(aside)


def _remove_hidden(root: Path, *, ignore_errors: bool = False) -> None:
    for path in root.glob(".*"):
        shutil.rmtree(path, ignore_errors=ignore_errors)
