"""Law 3 on a bad disk: whatever file-system call of a save fails or is the last one, a whole checkpoint is left.

First `save_checkpoint` and `prune` alone, over every call, failure and death; then whole runs, which must end with
exit code 69 and give the undisturbed bits when they are resumed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metadist import MetadistError, checkpoint
from metadist.checkpoint import State, load_checkpoint, newest_whole, prune, save_checkpoint, set_aside, steps
from metadist.errors import SaveFailed
from metadist.parameters import Layout, sha256
from metadist.tracking import Journal, JournalWriteFailed
from tests.support.disk import Disk, Fault
from tests.support.quick import SMALL_RUN, train_quickly

LAYOUT = Layout(("model.a", "inner.rate"), ((3,), ()))
REASONS = {"ENOSPC": "No space left", "EIO": "Input/output error"}
FAILURES = [(kind, lasting, half) for kind in REASONS for lasting in (False, True) for half in (False, True)]
SAMPLE = [("ENOSPC", True, False), ("EIO", False, False), ("ENOSPC", False, True)]


def save(folder: Path, step: int) -> None:
    flat = np.full(LAYOUT.size, step, np.float32)
    layout = [[name, list(shape)] for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)]
    with Journal(folder) as journal:
        journal.metrics(step, {"loss": 1.0})
        journal.sync()
        state = State(step=step, journal_offset=journal.position(), params_sha256=sha256(flat), layout=layout)
    save_checkpoint(folder, state, flat, LAYOUT, {})
    for problem in prune(folder, keep=2, best_step=1):
        raise SaveFailed(str(folder), problem)


def damage(folder: Path, step: int) -> None:
    file = folder / checkpoint.FOLDER / f"{step:06d}" / "params.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def with_three(folder: Path) -> None:
    for step in (1, 2, 3):
        save(folder, step)
    half = folder / checkpoint.FOLDER / ".000004.1"
    half.mkdir()
    (half / "params.safetensors").write_bytes(b"half")


def with_a_damaged_one(folder: Path) -> None:
    with_three(folder)
    save(folder, 4)
    damage(folder, 4)


def resume_and_save(folder: Path) -> None:
    set_aside(folder, newer_than=3)
    save(folder, 4)


def damaged_twice(folder: Path) -> None:
    with_a_damaged_one(folder)
    set_aside(folder, newer_than=3)
    save(folder, 4)
    damage(folder, 4)


Act = Callable[[Path], None]
SCENES: dict[str, tuple[Act, Act, int, int]] = {  # prepare, act, the newest whole step before, and after
    "the first": (lambda folder: folder.mkdir(), lambda folder: save(folder, 1), 0, 1),
    "one more, one pruned": (with_three, lambda folder: save(folder, 4), 3, 4),
    "the same step again": (with_three, lambda folder: save(folder, 3), 3, 3),
    "over a damaged one": (with_a_damaged_one, lambda folder: save(folder, 4), 3, 4),
    "after a fall back": (with_a_damaged_one, resume_and_save, 3, 4),
    "after a second fall back": (damaged_twice, resume_and_save, 3, 4),
}


def count(template: Path, folder: Path, act: Act) -> list[str]:
    shutil.copytree(template, folder)
    disk = Disk()
    with disk.armed():
        act(folder)
    return disk.calls


def check(folder: Path, scene: str, *, finished: bool) -> None:
    """A whole checkpoint is left, none is half seen, and the next save is as if nothing had happened."""
    prepare, _, before, after = SCENES[scene]
    damaged: list[str] = []
    found = newest_whole(folder, damaged.append)
    step = found.state.step if found else 0
    assert step == after if finished else step in (before, after)
    assert found is None or found.flat.tolist() == [step] * LAYOUT.size
    assert not damaged or prepare in (with_a_damaged_one, damaged_twice)
    for older in steps(folder):
        assert older > step or load_checkpoint(folder, older)
    set_aside(folder, newer_than=step)
    save(folder, step + 1)
    found = newest_whole(folder, pytest.fail)
    assert found is not None and found.state.step == step + 1
    assert steps(folder) == sorted({1, step, step + 1} - {0})
    assert not list((folder / checkpoint.FOLDER).glob(".*"))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("failures", [SAMPLE, pytest.param(FAILURES, marks=pytest.mark.laws)], ids=["sample", "all"])
def test_every_failing_call_leaves_a_whole_checkpoint(
    scene: str, failures: list[tuple[str, bool, bool]], tmp_path: Path
) -> None:
    prepare, act, *_ = SCENES[scene]
    prepare(tmp_path / "template")
    calls = count(tmp_path / "template", tmp_path / "counted", act)
    assert len(calls) > 10 or scene == "the same step again", calls
    for at, name in enumerate(calls, start=1):
        for kind, lasting, half in failures:
            if half and name != "write":
                continue
            folder = tmp_path / f"{at}-{kind}-{lasting}-{half}"
            shutil.copytree(tmp_path / "template", folder)
            finished = True
            try:
                with Disk(Fault(at=at, kind=kind, lasting=lasting, half=half)).armed():
                    act(folder)
            except (SaveFailed, JournalWriteFailed) as error:
                finished = False
                assert error.exit_code == 69
                assert str(folder) in str(error) and REASONS[kind] in str(error) and "make room" in str(error)
            check(folder, scene, finished=finished)
            shutil.rmtree(folder)


@pytest.mark.parametrize("scene", SCENES)
def test_every_death_leaves_a_whole_checkpoint(scene: str, tmp_path: Path) -> None:
    prepare, act, *_ = SCENES[scene]
    prepare(tmp_path / "template")
    calls = count(tmp_path / "template", tmp_path / "counted", act)
    deaths = [(at, half) for at, name in enumerate(calls, start=1) for half in ([False, True][: 1 + (name == "write")])]
    children = multiprocessing.get_context("forkserver")  # forked where no thread runs
    process = children.Process(target=die_at_every, args=(tmp_path, scene, deaths))
    process.start()
    process.join()
    assert process.exitcode == 0
    for at, half in deaths:
        check(tmp_path / f"{at}-{half}", scene, finished=False)


def die_at_every(tmp_path: Path, scene: str, deaths: list[tuple[int, bool]]) -> None:
    """Fork a child for each death; each dies by SIGKILL in its call."""
    for at, half in deaths:
        folder = tmp_path / f"{at}-{half}"
        shutil.copytree(tmp_path / "template", folder)
        child = os.fork()
        if child == 0:
            with Disk(Fault(at=at, kind="SIGKILL", half=half)).armed():
                SCENES[scene][1](folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"call {at} was not reached"


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_is_found_wherever_it_is(seed: int, tmp_path: Path) -> None:
    """One bit of every byte of the three files; a blank of the JSON may differ, what it says may not."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    rng = random.Random(seed)
    for file in sorted((tmp_path / checkpoint.FOLDER / "000002").iterdir()):
        whole = file.read_bytes()
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            told: list[str] = []
            found = newest_whole(tmp_path, told.append)
            assert found is not None and found.state.step == 1 and len(told) == 1, (file.name, place)
        file.write_bytes(whole)
    assert newest_whole(tmp_path, pytest.fail)


@pytest.mark.parametrize("length", range(0, 400, 13))
def test_a_truncated_file_or_an_empty_folder_falls_back(length: int, tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    folder = tmp_path / checkpoint.FOLDER / "000002"
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:length] if length else b"")
        if not length:
            file.unlink()
    told: list[str] = []
    found = newest_whole(tmp_path, told.append)
    assert found is not None
    assert (found.state.step, len(told)) == (1, 1)


RUN = {
    "outer.num_steps": 4,
    "outer.meta_batch_size": 2,
    "evaluation": {"every_steps": 2, "num_tasks": 2},
    "checkpoint": {"every_steps": 1, "keep": 1},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """The bits of the run, and the calls it makes."""
    disk = Disk()
    with disk.armed():
        run = train_quickly(SMALL_RUN, RUN, tmp_path_factory.mktemp("undisturbed") / "run", resume=True)
    return run.summary["params_sha256"], disk.calls


def failing_run(fault: Fault, folder: Path, sha256: str) -> None:
    """The run ends with what the error says, or was not hit where it matters; resumed, it has the same bits."""
    try:
        with Disk(fault).armed():
            found = train_quickly(SMALL_RUN, RUN, folder, resume=True)
        assert found.summary["params_sha256"] == sha256
    except MetadistError as error:
        assert error.exit_code == 69, (fault, error)
        assert str(folder) in str(error) and REASONS[fault.kind] in str(error) and "make room" in str(error)
    newest_whole(folder, pytest.fail)
    again = train_quickly(SMALL_RUN, RUN, folder, resume=True)
    assert again.summary["params_sha256"] == sha256, fault


@pytest.mark.parametrize("kind", REASONS)
def test_a_run_on_a_failing_disk_ends_in_order(kind: str, undisturbed: tuple[str, list[str]], tmp_path: Path) -> None:
    sha256, calls = undisturbed
    for at in range(1 + len(kind), len(calls) + 1, len(calls) // 3):
        failing_run(Fault(at=at, kind=kind, lasting=True), tmp_path / str(at), sha256)


@pytest.mark.laws
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "lasting", "half"), FAILURES)
def test_a_run_on_a_disk_that_fails_at_any_call(
    kind: str, lasting: bool, half: bool, undisturbed: tuple[str, list[str]], tmp_path: Path
) -> None:
    sha256, calls = undisturbed
    for at in (at for at, name in enumerate(calls, start=1) if name == "write" or not half):
        failing_run(Fault(at=at, kind=kind, lasting=lasting, half=half), tmp_path / str(at), sha256)


def test_a_full_device_of_the_kernel(tmp_path: Path) -> None:
    """``/dev/full`` in the journal's place: a real ENOSPC, and nothing to cut off afterwards."""
    settings: dict[str, Any] = {"outer.num_steps": 1}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(JournalWriteFailed, match=r"journal\.jsonl.*No space left on device.*make room"):
        train_quickly(SMALL_RUN, settings, tmp_path / "run")
