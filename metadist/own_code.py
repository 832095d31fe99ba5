"""Code of the user's own, named in the configuration as ``"package.module:function"``: found, imported and hashed.

Every key that takes an import path (`metadist.config.import_paths`) goes through here, in drivers, workers and served
models alike.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from metadist.errors import ConfigError, MetadistError


def search_in(folders: Iterable[str], *, before: Iterable[str] = ()) -> None:
    """Let modules be found in ``folders``, after whatever Python searches already, but for the folders ``before``."""
    for folder in folders:
        if folder not in sys.path:
            places = [sys.path.index(other) for other in before if other in sys.path]
            sys.path.insert(min(places, default=len(sys.path)), folder)
            importlib.invalidate_caches()


def imported(path: str, key: str) -> Callable[..., Any]:
    """The function or class behind ``path``.

    Args:
        path: ``"package.module:function"``.
        key: The configuration key that names it, for messages.

    Raises:
        ConfigError: no such module or attribute, the module fails on import, or what it names cannot be called.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{key} {path!r} is not of the form 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key} {path!r} cannot be imported: {error}; searched sys.path, last {sys.path[-1]}. Its folder may be "
            "named by code_path, or stand in PYTHONPATH; workers on other machines find what is installed there, the "
            "file or package that is named itself, and all of the folder that --working-dir DIR sends them"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(f"{key} {path!r} cannot be imported: {told(error)}") from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{key} {path!r}: module {module_name} ({module.__file__}) has no {attribute!r}")
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(f"{key} {path!r} is {type(found).__name__}, which cannot be called; name a function or class")
    function: Callable[..., Any] = found
    return function


def built(path: str, key: str, *arguments: Any, **options: Any) -> Any:
    """What the function behind ``path`` returns.

    Raises:
        ConfigError: as for `imported`; its arguments are others, or it raises.
    """
    function = imported(path, key)
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        given = ", ".join([*(type(argument).__name__ for argument in arguments), *(f"{name}=" for name in options)])
        raise ConfigError(f"{key} {path!r} is called with ({given}): {error}") from error
    return guarded(f"{key} {path!r} failed", lambda: function(*arguments, **options))


def guarded(what: str, call: Callable[[], Any]) -> Any:
    """What ``call`` returns; an error of a user's own code in it becomes one that begins with ``what``.

    Raises:
        ConfigError: it raised something that is not ours.
    """
    try:
        return call()
    except MetadistError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise ConfigError(f"{what}: {told(error)}") from error


def told(error: Exception) -> str:
    """Type, first line and place of an error in a user's code."""
    lines = str(error).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and _outside(frame.filename)]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {lines[0] if lines else ''}{place}"


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
    spec, folders = _located(path)
    if spec is None:
        imported(path, key)  # says what is wrong
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(f"{key} {path!r} has no Python source: it must lie in a file or a package")
    origin = Path(spec.origin)
    found = origin.parent if origin.name == "__init__.py" else origin
    return Source(found, "/".join([*folders, found.name]))


def file_hashes(source: Source) -> dict[str, str]:
    """SHA-256 of every Python file of a module or package, by its name from the search folder on."""
    return {name: digest(file.read_bytes()) for name, file in files_of(source).items()}


def files_of(source: Source) -> dict[str, Path]:
    """Every Python file of a module or package, by its name from the search folder on."""
    files = sorted(source.path.rglob("*.py")) if source.path.is_dir() else [source.path]
    return {str(PurePosixPath(source.name, file.relative_to(source.path))): file for file in files}


def source_sha256(source: Source) -> str:
    """SHA-256 over names and bytes of the Python files."""
    return digest(repr(sorted(file_hashes(source).items())).encode())


def hashes_of(paths: Mapping[str, str]) -> dict[str, str]:
    """`file_hashes` of everything that ``paths`` (key -> import path) name."""
    return {name: digest for key, path in paths.items() for name, digest in file_hashes(source_of(path, key)).items()}


def _located(path: str) -> tuple[ModuleSpec | None, list[str]]:
    """The outermost module of ``path`` that is no plain folder, and the folders above it."""
    parts = path.partition(":")[0].split(".")
    for depth in range(1, len(parts) + 1):
        spec = importlib.util.find_spec(".".join(parts[:depth])) if all(parts[:depth]) else None
        if spec is None or spec.origin is not None:
            return spec, parts[: depth - 1]
    return None, parts


def _outside(file: str) -> bool:
    return not Path(file).is_relative_to(Path(__file__).parent) and not file.startswith("<")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
