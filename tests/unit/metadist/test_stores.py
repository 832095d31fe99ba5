"""A store of a shipped generator is built when it is missing, also by two runs at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist import load_config
from metadist.stores import GENERATORS, locate
from tasks_store import Manifest, StoreExists, named_store
from tasks_store.generators.sinusoids import build_sinusoids

SIZES = {"train": 20, "validation": 5, "test": 5}


def build(out: Path) -> Manifest:
    return build_sinusoids(out, sizes=SIZES)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METADIST_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("empty_home")
def test_a_missing_store_is_built_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "sinusoids", build)
    told: list[str] = []
    assert locate(load_config("sinusoid"), told.append) == str(named_store("sinusoids"))
    assert "building it" in told[0]
    assert locate(load_config("sinusoid"), pytest.fail) == str(named_store("sinusoids"))


@pytest.mark.usefixtures("empty_home")
def test_the_store_of_another_run_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds started at once on a new machine: the other one ends first."""

    def second(out: Path) -> Manifest:
        build(out)
        return build(out)

    monkeypatch.setitem(GENERATORS, "sinusoids", second)
    assert locate(load_config("sinusoid"), lambda message: None) == str(named_store("sinusoids"))


@pytest.mark.usefixtures("empty_home")
def test_other_files_in_its_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "sinusoids", build)
    place = named_store("sinusoids")
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(StoreExists, match=r"notes\.txt"):
        locate(load_config("sinusoid"), lambda message: None)
