"""Source of a user's own parts of a model: it travels in the bundle, and is checked before it is trusted."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from metadist.errors import DataError
from metadist.own.code import search_in
from metadist.own.source import is_importable, module_of, source_of, source_sha256, sources_of

USER_CODE = "user_code"


def pack_code(paths: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Copy the source behind ``paths`` (key -> import path), and what it imports of the user's own, into the bundle
    ``folder``; digests by file or folder name.

    Raises:
        ConfigError: one of them has no source.
    """
    packed: dict[str, str] = {}
    for source in sources_of(paths):
        out = folder / USER_CODE / source.name
        out.parent.mkdir(parents=True, exist_ok=True)
        if source.path.is_dir():
            shutil.copytree(source.path, out, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        else:
            shutil.copy2(source.path, out)
        packed[source.name] = source_sha256(source)
    return packed


def provide_code(paths: Mapping[str, str], folder: Path, packed: Mapping[str, str]) -> None:
    """Make the parts importable, from the environment or else from the bundle, if they are those that trained.

    Raises:
        DataError: Python would import another version.
    """
    modules = {module_of(name): name for name in packed}
    if not all(map(is_importable, [*paths.values(), *modules])):
        search_in([str(folder / USER_CODE)])
    for key, path in [*paths.items(), *(("user_code", module) for module in modules)]:
        source = source_of(path, key)
        if source_sha256(source) != packed.get(source.name):
            raise DataError(
                f"{key} {path!r}: Python imports {source.path}, which is not the source that this model was trained "
                f"with ({folder / USER_CODE}); put that one first, or load this model in a process of its own"
            )
    if paths:
        _let_it_import_us()


def _let_it_import_us() -> None:
    """In a served model this package has a name with a hash; a user's code asks for it by its own."""
    root = __name__.partition(".")[0]
    if importlib.util.find_spec("metadist") is None:
        sys.modules["metadist"] = sys.modules[root]
