"""Checkpoints: whole or invisible, damage is noticed, the last few and the best are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metadist import checkpoint
from metadist.checkpoint import Best, State, load_checkpoint, newest_whole, prune, save_checkpoint, steps
from metadist.errors import CheckpointDamaged, UsageError
from metadist.parameters import Layout, named_leaves, sha256
from metadist.run_reader import find_checkpoint

LAYOUT = Layout(("model.a.weight", "model.b", "inner.rate"), ((2, 3), (5,), ()))
FLAT = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
OPTIMIZER = {"0.exp_avg": torch.arange(12.0), "0.step": torch.tensor(7.0)}


def save(folder: Path, step: int, best: Best | None = None) -> Path:
    state = State(
        step=step,
        journal_offset=100 * step,
        params_sha256=sha256(FLAT + step),
        layout=[[name, list(shape)] for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)],
        best=best,
    )
    return save_checkpoint(folder, state, FLAT + np.float32(step), LAYOUT, OPTIMIZER)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    best = Best(step=3, metric="mse", value=0.25, ci95=0.5)
    save(tmp_path, 5, best)
    found = load_checkpoint(tmp_path, 5)
    assert found.flat.tobytes() == (FLAT + np.float32(5)).tobytes()
    assert found.state.best == best and found.state.journal_offset == 500
    assert list(named_leaves(found.meta)) == list(LAYOUT.names)
    assert all(leaf.data_ptr() % 64 == 0 for leaf in named_leaves(found.meta).values())
    assert found.optimizer.keys() == OPTIMIZER.keys()
    assert all(torch.equal(leaf, OPTIMIZER[name]) for name, leaf in found.optimizer.items())


@pytest.mark.parametrize("name", ["params.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_noticed_and_the_one_before_is_used(name: str, damage: str, tmp_path: Path) -> None:
    save(tmp_path, 5)
    file = save(tmp_path, 10) / name
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(bytes(data if damage == "flip" else data[:-3]))
    with pytest.raises(CheckpointDamaged, match="000010"):
        load_checkpoint(tmp_path, 10)
    told: list[str] = []
    found = newest_whole(tmp_path, told.append)
    assert found is not None and found.state.step == 5
    assert len(told) == 1 and "falling back" in told[0]


def test_nothing_whole_is_none_and_every_damage_is_told(tmp_path: Path) -> None:
    assert newest_whole(tmp_path, pytest.fail) is None
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").write_text("{")
    told: list[str] = []
    assert newest_whole(tmp_path, told.append) is None
    assert len(told) == 2


def test_prune_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step)
    left_behind = tmp_path / checkpoint.FOLDER / ".000009.123"
    left_behind.mkdir()
    prune(tmp_path, keep=2, best_step=3)
    assert steps(tmp_path) == [3, 6, 7]
    assert not left_behind.exists()
    prune(tmp_path, keep=2, best_step=None)
    assert steps(tmp_path) == [6, 7]


def test_a_save_that_is_interrupted_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    whole = checkpoint.write_synced

    def failing(path: Path, blob: bytes) -> None:
        if path.name == "state.json":
            raise KeyboardInterrupt
        whole(path, blob)

    monkeypatch.setattr(checkpoint, "write_synced", failing)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    assert [path.name for path in (tmp_path / checkpoint.FOLDER).iterdir()] == ["000001"]
    monkeypatch.undo()
    save(tmp_path, 2)
    assert steps(tmp_path) == [1, 2]
    save(tmp_path, 2)  # again, as after a resume
    assert load_checkpoint(tmp_path, 2).state.step == 2


def test_find_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointDamaged, match="no checkpoint"):
        find_checkpoint(tmp_path, "best")
    for step in (1, 2, 3):
        save(tmp_path, step, Best(step=2, metric="mse", value=1.0, ci95=0.0))
    assert find_checkpoint(tmp_path, "best").state.step == 2
    assert find_checkpoint(tmp_path, "last").state.step == 3
    assert find_checkpoint(tmp_path, "1").state.step == find_checkpoint(tmp_path, 1).state.step == 1
    for wrong, hint in (("9", ""), ("newest", ""), ("lst", "did you mean last.*")):
        with pytest.raises(UsageError, match=f"{hint}use best, last or one of the steps 1, 2, 3"):
            find_checkpoint(tmp_path, wrong)
    (tmp_path / checkpoint.FOLDER / "000003" / "params.safetensors").unlink()
    for which in ("best", "last", 3):
        with pytest.raises(CheckpointDamaged, match=r"000003.*another of the steps 1, 2, 3.*--resume"):
            find_checkpoint(tmp_path, which)
    assert find_checkpoint(tmp_path, 2).state.step == 2
