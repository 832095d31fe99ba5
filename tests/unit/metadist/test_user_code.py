"""A user's parts are found from the configured folders, last; their source is hashed, packed and checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metadist.errors import ConfigError, DataError
from metadist.own.code import built, imported, search_in
from metadist.own.source import file_hashes, hashes_of, source_of, sources_of
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


IMPORTS = {
    "beside": ("import own_side", "own_side.py"),
    "one of its functions": ("from own_side import layer", "own_side.py"),
    "everything of it": ("from own_side import *", "own_side.py"),
    "late": ("def build(spec):\n    import own_side as side\n    return side", "own_side.py"),
    "perhaps": ("try:\n    import own_side\nexcept ImportError:\n    import own_missing", "own_side.py"),
    "a package": ("from own_parts.deep import layer", "own_parts"),
    "of a plain folder": ("from own_plain import nets", "own_plain/nets.py"),
    "over another": ("import own_over", "own_side.py"),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_what_it_imports_of_the_users_own_belongs_to_it(name: str, write: Write, tmp_path: Path) -> None:
    """It is hashed, travels and is checked with it; what is installed, ours or not imported does not."""
    for file in ("own_side.py", "own_unused.py", "own_parts/__init__.py", "own_parts/deep.py", "own_plain/nets.py"):
        write(file, "layer = 1\n")
    write("own_over.py", "import own_side, own_start\n")
    statement, expected = IMPORTS[name]
    own = "import json, torch, metadist, own_missing.deep\nfrom . import nothing\n" + statement
    paths = {"model.factory": write("own_start.py", own) + ":build"}
    packed = pack_code(paths, tmp_path / "bundle")
    assert set(packed) == {"own_start.py", expected} | ({"own_over.py"} if name == "over another" else set())
    before = hashes_of(paths)
    (tmp_path / expected / "deep.py" if expected == "own_parts" else tmp_path / expected).write_text("layer = 2\n")
    assert set(hashes_of(paths)) == set(before) and hashes_of(paths) != before
    with pytest.raises(DataError, match=r"user_code 'own_.* not the source .* trained"):
        provide_code(paths, tmp_path / "bundle", packed)


def test_neighbours_in_a_plain_folder_and_files_that_are_no_python(write: Write) -> None:
    write("own_folder/side.py", "def broken(:\n")
    path = write("own_folder/start.py", "from .side import layer\nfrom ...far import away\n")
    found = sources_of({"model.factory": path + ":build"})
    assert [source.name for source in found] == ["own_folder/start.py", "own_folder/side.py"]


def test_a_neighbour_is_provided_from_the_bundle(write: Write, tmp_path: Path) -> None:
    write("own_helper.py", "layer = 1\n")
    paths = {"model.factory": write("own_needs.py", "import own_helper\n") + ":build"}
    packed = pack_code(paths, tmp_path / "bundle")
    (tmp_path / "own_helper.py").unlink()
    provide_code(paths, tmp_path / "bundle", packed)
    assert source_of("own_helper", "").path == tmp_path / "bundle" / USER_CODE / "own_helper.py"


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
