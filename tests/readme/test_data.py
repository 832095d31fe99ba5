"""The examples of docs/data.md are run as they stand, and its flags are those of the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image

from metadist.cli import app
from tasks_store import Store, load_split
from tests.support.documents import document

PAGE = document("data.md")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    PAGE.lay_out(tmp_path, monkeypatch)
    return tmp_path


def test_sentences_and_sensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences, sensors, export, again, _ = PAGE.commands
    app(sentences, standalone_mode=False)
    told = capsys.readouterr().out
    assert "rows: 9 read, 8 kept\n  1 dropped: --drop-label\n" in told
    assert Store.open("intents").groups("train").domains in (["bank", "bank"], ["travel"], ["weather"])
    app(export, standalone_mode=False)
    assert sorted(file.stem for file in (folder / "plain").iterdir()) == ["test", "train", "validation"]
    app(again, standalone_mode=False)
    for split in Store.open("intents").splits:
        assert Store.open("again").groups(split).names == Store.open("intents").groups(split).names
    capsys.readouterr()
    app([*sensors, "--json"], standalone_mode=False)
    done = json.loads(capsys.readouterr().out)
    assert done["import"]["dropped"] == {"--where": 0, "gaps": 1}
    assert done["import"]["read"] == 9 and done["import"]["kept"] == 8
    store = Store.open("air")
    assert store.columns["x"].fields == ("TEMP", "WIND", "TEMP_missing")
    owner = {domain: split for split in store.splits for domain in store.groups(split).domains}
    first = load_split(store, owner["a"])
    np.testing.assert_array_equal(first.arrays["x"][:2], np.float32([[1.0, 2, 0], [1.5, 3, 0]]))


def test_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in "abcd":
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "pictures" / label / f"{number}.png")
    (folder / "pictures" / "a" / "2.jpg").write_bytes(b"no picture")
    app(PAGE.commands[-1], standalone_mode=False)
    told = capsys.readouterr()
    assert "rows: 9 read, 8 kept\n  1 dropped: broken\n" in told.out
    assert "broken, left out: pictures/a/2.jpg: " in told.err
    assert Store.open("faces").columns["image"].shape == (28, 28)


def test_the_table_names_flags_that_there_are() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE.text))
    tasks = typer.main.get_command(app).commands["tasks"].commands  # type: ignore[attr-defined]
    parameters = [*tasks["import"].commands["table"].params, *tasks["export"].params]
    parameters += tasks["import"].commands["images"].params
    assert named <= {option for parameter in parameters for option in parameter.opts}
