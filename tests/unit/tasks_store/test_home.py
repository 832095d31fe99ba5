"""Names of stores, and the one command that makes a missing one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks_store import StoreMissing, metadist_home, named_store, resolve_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METADIST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metadist_home() == home
    assert named_store("glyphs") == home / "stores" / "glyphs"
    monkeypatch.delenv("METADIST_HOME")
    assert metadist_home() == Path.home() / ".metadist"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("glyphs", "metadist tasks build glyphs"),
        ("sinusoids", "metadist tasks build sinusoids"),
        ("customers", "metadist tasks build customers"),
        ("omniglot", "metadist tasks import omniglot --from PATH"),
    ],
)
def test_a_missing_store_prints_its_command(name: str, command: str, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing) as caught:
        resolve_store(name)
    assert str(caught.value) == f"no task store '{name}'; make it with: {command}"
    assert caught.value.command == command
    with pytest.raises(StoreMissing, match=f"{command} --out {tmp_path / name}"):
        resolve_store(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "page"), [("banking77", "recipes"), ("clinc150", "recipes"), ("beijing-air", "evidence")]
)
def test_a_missing_table_prints_the_command_of_the_documentation(name: str, page: str, home: Path) -> None:
    with pytest.raises(StoreMissing, match=r"make it with: metadist tasks import table --from") as caught:
        resolve_store(name)
    assert caught.value.command.endswith(f" --out {home}/stores/{name}")
    documented = (Path(__file__).parents[3] / "docs" / f"{page}.md").read_text()
    assert caught.value.command.replace(str(home), "~/.metadist") in documented


def test_unknown_names_and_paths(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=rf"no task store 'mine'; expected manifest\.json in {home}/stores/mine"):
        resolve_store("mine")
    with pytest.raises(StoreMissing, match=r"no task store '\./mine'"):
        resolve_store("./mine")
    with pytest.raises(StoreMissing):
        resolve_store(tmp_path)


def test_existing_stores(small: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_store(small) == small
    assert resolve_store(str(small)) == small
    monkeypatch.chdir(small.parent)
    assert resolve_store("./small") == small
    shutil.copytree(small, home / "stores" / "mine")
    assert resolve_store("mine") == home / "stores" / "mine"
    assert resolve_store("s3://bucket/store") == "s3://bucket/store"
