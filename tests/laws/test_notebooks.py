"""The notebooks of the documentation run as they stand, show what they stored, and are one of three equal ways in."""

from __future__ import annotations

import functools
import json
import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from nbformat import NotebookNode

import metadist
from metadist.cli import app
from tests.support import notebooks
from tests.support.quick import unmirrored

LOOP = "own-algorithm-and-loop"  # the one of every `make test`
ROWS = [name if name == LOOP else pytest.param(name, marks=pytest.mark.laws) for name in notebooks.NAMES]
PLACES = re.compile(r"(?:^|[\s'\"(=])(?:/|[A-Z]:\\)\w+[/\\]\w|file://|\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d")


@functools.cache
def executed(name: str) -> NotebookNode:
    with tempfile.TemporaryDirectory() as place:
        return notebooks.run(name, Path(place))


def masked(shown: list[list[str]]) -> list[list[str]]:
    """Without hashes and numbers, which are another machine's."""
    return [[re.sub(r"\b[0-9a-f]{64}\b|-?\d[\d.]*", "#", text) for text in cell] for cell in shown]


def hashes(notebook: NotebookNode) -> list[str]:
    """Every hash that it shows, in order."""
    return re.findall(r"\b[0-9a-f]{64}\b", str(notebooks.texts(notebook)))


def test_there_are_three() -> None:
    assert notebooks.NAMES == ["first-hour", LOOP, "own-data-and-model"]


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_what_is_stored_is_clean(name: str) -> None:
    """Every cell was run, in order, nothing was raised or warned of, and no path or time of a machine is shown."""
    stored = notebooks.stored(name)
    cells = notebooks.code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = notebooks.texts(stored)
    assert any(shown) and not any(text.startswith(("error", "stderr")) for cell in shown for text in cell)
    for text in (text for cell in shown for text in cell):
        assert not PLACES.search(text), text
    assert set(stored.metadata) == {"kernelspec", "made_on"}
    assert all(set(cell.metadata) <= {"tags"} for cell in stored.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_fresh_run_shows_what_is_stored(name: str) -> None:
    """To the bit on the kind of machine that made it; elsewhere all but the numbers."""
    stored, fresh = notebooks.stored(name), executed(name)
    if stored.metadata.made_on == fresh.metadata.made_on:
        assert notebooks.texts(fresh) == notebooks.texts(stored)
    assert masked(notebooks.texts(fresh)) == masked(notebooks.texts(stored))


@pytest.mark.slow
def test_three_ways_give_the_same_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, the notebook, and the ten-line loop here: one recipe, one algorithm of one's own, one hash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    first, *_ = notebooks.code_cells(notebooks.stored(LOOP))
    exec(compile(first.source, "its rows", "exec"), {})
    files = notebooks.files(notebooks.stored(LOOP))
    for file, text in files.items():
        Path(file).write_text(text)

    with unmirrored():
        app(["train", "means.yaml", "--run-dir", "runs/command", "--json"], standalone_mode=False)
    command = json.loads(capsys.readouterr().out)["params_sha256"]
    loop = metadist.params_sha256(_by_hand("means.yaml"))
    notebook = hashes(executed(LOOP))
    for file in files:
        sys.modules.pop(Path(file).stem, None)
    assert len(notebook) == 2 and {command, loop, *notebook} == {command}


def _by_hand(recipe: str) -> metadist.MetaParams:
    """The outer loop: open_tasks, meta_gradient, a torch optimizer."""
    config = metadist.load_config(recipe)
    tasks = metadist.open_tasks(config)
    algorithm = metadist.parts_of(config, tasks).algorithm
    params = algorithm.init(config.seed)
    start = metadist.params_sha256(params)
    optimizer = torch.optim.Adam(metadist.leaves(params), lr=config.outer.lr, foreach=False)
    for step in range(config.outer.num_steps):
        direction, _ = metadist.meta_gradient(algorithm, params, tasks.batch(step, config.outer.meta_batch_size))
        for leaf, slope in zip(metadist.leaves(params), metadist.leaves(direction), strict=True):
            leaf.grad = slope
        optimizer.step()
    assert metadist.params_sha256(params) != start
    return params
