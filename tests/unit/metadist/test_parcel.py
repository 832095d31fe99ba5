"""What travels of a user's own code, what stays, and how it arrives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metadist.config.fingerprint import numbers_of
from metadist.config.load import load_config
from metadist.errors import ConfigError, DataError
from metadist.own.code import search_in
from metadist.own.parcel import LIMIT, digest, packed, unpacked
from metadist.own.source import hashes_of
from tests.support.quick import SMALL_RUN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as they are: code, a data file, and all that comes to lie beside them."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    files = (
        "parcel_nets/__init__.py", "parcel_nets/layers.py", "parcel_nets/names.txt", "parcel_helper.py", "words.txt",
        ".git/config", ".env", "parcel_nets/__pycache__/layers.pyc", "mlflow.db", "mlruns/0/meta.yaml",
        "runs/one/journal.jsonl", "runs/one/checkpoints/1.safetensors", "store/manifest.json", "store/data/a.parquet",
        "venv/pyvenv.cfg", "venv/lib/big.py",
    )  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_the_sources_that_the_fingerprint_names(folder: Path) -> None:
    paths = {"model.factory": "parcel_nets.layers:build", "objective.name": "parcel_helper:build"}
    found = packed(paths, None)
    assert {name: digest(content) for name, content in found.items()} == hashes_of(paths)
    assert list(found) == ["parcel_helper.py", "parcel_nets/__init__.py", "parcel_nets/layers.py"]


def test_what_is_installed_does_not_travel() -> None:
    assert packed({"model.factory": "yaml:safe_load", "objective.name": "json:loads"}, None) == {}


def test_a_folder_travels_without_what_lies_beside_the_code(folder: Path) -> None:
    found = packed({}, str(folder))
    assert list(found) == [
        "parcel_helper.py", "parcel_nets/__init__.py", "parcel_nets/layers.py", "parcel_nets/names.txt", "words.txt",
    ]  # fmt: skip
    assert found["words.txt"] == b"# words.txt\n"


def test_a_folder_of_data_is_refused(folder: Path) -> None:
    with open(folder / "table.csv", "wb") as file:
        file.truncate(3 * LIMIT)
    with pytest.raises(
        ConfigError, match=r"6 files with 60\.0 MB .* limit is 20\.0 MB; the largest: table\.csv 60\.0 MB"
    ):
        packed({}, str(folder))
    with pytest.raises(ConfigError, match=r"--working-dir .*nowhere is not a folder"):
        packed({}, str(folder / "nowhere"))


def test_it_arrives_once_and_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "node"))
    files = packed({}, str(folder))
    place = unpacked(files)
    assert {name: (place / name).read_bytes() for name in files} == files
    before = (place / "words.txt").stat().st_mtime_ns
    assert unpacked(files) == place and (place / "words.txt").stat().st_mtime_ns == before
    assert unpacked({**files, "words.txt": b"others"}) != place
    assert not [left for left in place.parent.iterdir() if left.name.startswith("tmp")]
    (place / "words.txt").write_text("changed")
    with pytest.raises(DataError, match=r"words\.txt is not what the driver sent: remove "):
        unpacked(files)


def test_it_is_found_before_the_drivers_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/python", "/drivers", "/other"])
    search_in(["/sent"], before=["/elsewhere", "/drivers"])
    assert sys.path == ["/python", "/sent", "/drivers", "/other"]
    search_in(["/last"], before=["/elsewhere"])
    assert sys.path[-1] == "/last"


def test_it_changes_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    plain = load_config(SMALL_RUN)
    sent = load_config(SMALL_RUN, {"working_dir": folder.name})
    assert sent.working_dir == str(folder) and sent.code_path == (str(folder),)
    assert numbers_of(sent) == numbers_of(plain)
