"""Code of the user's own, named in the configuration as ``"package.module:function"``: found, imported and called.

Every key that takes an import path (`metadist.config.import_paths`) goes through here, in drivers, workers and served
models alike. What of it is hashed and travels: `metadist.own.source`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from metadist.errors import ConfigError, MetadistError

OURS = Path(__file__).parents[1]  # metadist, or what travels of it with a model


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
            "file or package that is named, what its import statements name, and all that --working-dir DIR sends them"
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


def guarded(what: str, call: Callable[[], Any], kind: type[ConfigError] = ConfigError) -> Any:
    """What ``call`` returns; an error of a user's own code in it becomes one that begins with ``what``.

    Raises:
        ConfigError: it raised something that is not ours; ``kind`` narrows it.
    """
    try:
        return call()
    except MetadistError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise kind(f"{what}: {told(error)}") from error


def told(error: Exception) -> str:
    """Type, first line and place of an error in a user's code."""
    lines = str(error).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and _outside(frame.filename)]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {lines[0] if lines else ''}{place}"


def _outside(file: str) -> bool:
    return not Path(file).is_relative_to(OURS) and not file.startswith("<")
