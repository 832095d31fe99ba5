"""Source of the user's own parts: what is hashed into the fingerprint, and travels to workers and in bundles.

It is read and never run. A part brings the file or package that is named, and whatever of the user's own its import
statements name, wherever they stand; a module that is imported by a computed name is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from metadist.errors import ConfigError
from metadist.own.code import imported

PASSED = ("__main__", "cluster", "metadist", "tasks_store")


class Source(NamedTuple):
    """What is hashed and travels: a module's file or a package's folder, and its name from the search folder on."""

    path: Path
    name: str


def is_importable(path: str) -> bool:
    """Whether Python finds the module or package of ``path``."""
    return _located(path)[0] is not None


def source_of(path: str, key: str) -> Source:
    """The file, or the package folder, of the outermost module of ``path``; nothing of the user's is run.

    Plain folders, which have no ``__init__.py``, are passed through: of ``folder.nets:build`` it is ``folder/nets.py``.

    Raises:
        ConfigError: there is none, or it has no source that could be hashed and travel.
    """
    if path.startswith("__main__:"):
        raise ConfigError(
            f"{key} {path!r} lies in the program that runs; put it into a module, which workers can import"
        )
    source, spec = _found(path), _located(path)[0]
    if source is None and spec is None:
        imported(path, key)  # says what is wrong
    if source is None:
        raise ConfigError(f"{key} {path!r} has no Python source: it must lie in a file or a package")
    return source


def sources_of(paths: Mapping[str, str]) -> list[Source]:
    """The sources of ``paths`` (key -> import path), and what they import of the user's own; each once.

    Raises:
        ConfigError: as for `source_of`.
    """
    wanted = [source_of(path, key) for key, path in paths.items()]
    found: dict[str, Source] = {}
    while wanted:
        source = wanted.pop(0)
        if source.name not in found:
            found[source.name] = source
            wanted += [] if is_installed(source.path) else _neighbours(source)
    return list(found.values())


def files_of(source: Source) -> dict[str, Path]:
    """Every Python file of a module or package, by its name from the search folder on."""
    files = sorted(source.path.rglob("*.py")) if source.path.is_dir() else [source.path]
    return {str(PurePosixPath(source.name, file.relative_to(source.path))): file for file in files}


def file_hashes(source: Source) -> dict[str, str]:
    """SHA-256 of every Python file of a module or package, by its name from the search folder on."""
    return {name: digest(file.read_bytes()) for name, file in files_of(source).items()}


def source_sha256(source: Source) -> str:
    """SHA-256 over names and bytes of the Python files."""
    return digest(repr(sorted(file_hashes(source).items())).encode())


def hashes_of(paths: Mapping[str, str]) -> dict[str, str]:
    """`file_hashes` of everything that ``paths`` (key -> import path) name and import."""
    return {name: digest for source in sources_of(paths) for name, digest in file_hashes(source).items()}


def module_of(name: str) -> str:
    """The module of a source's or file's name: ``folder.nets`` of ``folder/nets.py``."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def is_installed(place: Path) -> bool:
    """Whether it lies in Python's own folders: then every node has it, or does not have metadist either."""
    return any(place.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib"))


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _neighbours(source: Source) -> list[Source]:
    """What the source imports that is neither installed nor ours nor itself."""
    names = {name: None for file, place in files_of(source).items() for name in _imports(file, place)}
    found = [_found(name) for name in names if name.partition(".")[0] not in PASSED]
    return [other for other in found if other and other != source and not is_installed(other.path)]


def _imports(name: str, place: Path) -> Iterator[str]:
    """Modules that a file names in its import statements, as far as they can be told from their members."""
    module = module_of(name)
    package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
    try:
        tree = ast.parse(place.read_bytes())
    except (SyntaxError, ValueError):
        return  # whoever imports it hears of it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package.split(".")) * bool(package):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names)


def _found(path: str) -> Source | None:
    spec, folders = _located(path)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin)
    place = origin.parent if origin.name == "__init__.py" else origin
    return Source(place, "/".join([*folders, place.name]))


def _located(path: str) -> tuple[ModuleSpec | None, list[str]]:
    """The outermost module of ``path`` that is no plain folder, and the folders above it."""
    parts = path.partition(":")[0].split(".")
    for depth in range(1, len(parts) + 1):
        spec = importlib.util.find_spec(".".join(parts[:depth])) if all(parts[:depth]) else None
        if spec is None or spec.origin is not None:
            return spec, parts[: depth - 1]
    return None, parts
