"""A user's parts are found from the configured folders, last; their source is hashed, packed and checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metadist.errors import ConfigError, DataError
from metadist.own_code import built, file_hashes, imported, search_in, source_of
from metadist.serving.user_code import USER_CODE, pack_code, provide_code

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into a folder that is searched; returns its import path up to the colon."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    search_in([str(tmp_path)])

    def write(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return name.removesuffix(".py").replace("/", ".")

    return write


def test_a_part_is_packed_and_provided(write: Write, tmp_path: Path) -> None:
    write("own_pack/__init__.py", "")
    path = write("own_pack/nets.py", "def build(spec):\n    return None\n") + ":build"
    parts = {"model.factory": path, "algorithm.name": path.replace("build", "other")}
    packed = pack_code(parts, tmp_path / "bundle")
    assert (tmp_path / "bundle" / USER_CODE / "own_pack" / "nets.py").is_file() and set(packed) == {"own_pack"}
    provide_code(parts, tmp_path / "bundle", packed)
    write("own_pack/nets.py", "def build(spec):\n    return 1\n")
    with pytest.raises(DataError, match=r"model.factory 'own_pack.nets:build': .* not the source .* trained"):
        provide_code(parts, tmp_path / "bundle", packed)


def test_a_file_in_a_plain_folder_is_packed_alone(write: Write, tmp_path: Path) -> None:
    write("own_folder/other.py", "")
    path = write("own_folder/deep/nets.py", "def build(spec): ...\n") + ":build"
    packed = pack_code({"model.factory": path}, tmp_path / "bundle")
    assert set(packed) == {"own_folder/deep/nets.py"}
    assert list(file_hashes(source_of(path, "model.factory"))) == ["own_folder/deep/nets.py"]
    (tmp_path / "own_folder/deep/nets.py").unlink()
    provide_code({"model.factory": path}, tmp_path / "bundle", packed)
    assert source_of(path, "model.factory").path == tmp_path / "bundle" / USER_CODE / "own_folder/deep/nets.py"


def test_every_file_of_a_package_is_hashed(write: Write) -> None:
    write("own_hash/__init__.py", "")
    path = write("own_hash/nets.py", "x = 1\n") + ":x"
    before = file_hashes(source_of(path, "model.factory"))
    write("own_hash/deep/more.py", "y = 2\n")
    after = file_hashes(source_of(path, "model.factory"))
    assert set(after) - set(before) == {"own_hash/deep/more.py"}
    assert all(after[name] == digest for name, digest in before.items())


def test_site_packages_come_first(write: Write, tmp_path: Path) -> None:
    write("numpy.py", "def build(): ...\n")
    assert not source_of("numpy:zeros", "model.factory").path.is_relative_to(tmp_path)


WRONG = {
    "no colon": ("own_fine", "is not of the form 'package.module:function'"),
    "no module": ("own_nowhere:build", r"cannot be imported: No module named 'own_nowhere'"),
    "no function": ("own_fine:buidl", r"module own_fine \(.*own_fine.py\) has no 'buidl'"),
    "not callable": ("own_fine:NUMBER", "is int, which cannot be called"),
    "broken module": ("own_broken:build", r"cannot be imported: NameError: name 'nonsense' .*own_broken.py:1"),
    "broken import": ("own_imports:build", "cannot be imported: No module named 'own_missing'"),
    "other arguments": (
        "own_fine:build",
        r"is called with \(int, width=\): got an unexpected keyword argument 'width'",
    ),
    "it raises": ("own_fine:fails", r"failed: ZeroDivisionError: .*own_fine.py:4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_the_key(name: str, write: Write) -> None:
    write("own_fine.py", "NUMBER = 1\ndef build(spec): ...\ndef fails(spec, **options):\n    return 1 / 0\n")
    write("own_broken.py", "nonsense\n")
    write("own_imports.py", "import own_missing\n")
    path, message = WRONG[name]
    with pytest.raises(ConfigError, match=message) as caught:
        built(path, "objective.name", 5, width=3)
    assert str(caught.value).startswith("objective.name")


def test_what_has_no_source_cannot_be_hashed(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no Python source: it must lie in a file or a package"):
        source_of("sys:exit", "tasks.source")
    (tmp_path / "own_empty_folder").mkdir()
    with pytest.raises(ConfigError, match=r"has no '?build"):
        source_of("own_empty_folder:build", "tasks.source")
    with pytest.raises(ConfigError, match="lies in the program that runs"):
        source_of("__main__:build", "tasks.source")


def test_a_class_is_as_good_as_a_function(write: Write) -> None:
    path = write("own_class.py", "class Tasks:\n    def __init__(self, *, size):\n        self.size = size\n")
    assert built(path + ":Tasks", "tasks.source", size=3).size == 3
    assert imported(path + ":Tasks", "tasks.source").__name__ == "Tasks"
