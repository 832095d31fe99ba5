"""Source of a model factory of the user's own: it travels in the bundle, and is checked before it is trusted."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

from metadist.errors import DataError
from metadist.models import import_factory

USER_CODE = "user_code"


def source_of(factory: str) -> Path:
    """The file, or the package folder, of the top-level module of ``"package.module:function"``.

    Raises:
        DataError: it has no source that could travel.
    """
    top = factory.partition(":")[0].split(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise DataError(f"model.factory {factory!r}: module {top!r} has no Python source to put into the bundle")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def source_sha256(source: Path) -> str:
    """SHA-256 over names and bytes of the Python files."""
    digest = hashlib.sha256()
    files = sorted(source.rglob("*.py")) if source.is_dir() else [source]
    for file in files:
        name = file.relative_to(source.parent).as_posix()
        digest.update(f"{name}\n{file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def pack_factory(factory: str, folder: Path) -> str:
    """Copy the factory's source into the bundle ``folder``; returns its digest."""
    import_factory(factory)  # finds it as training does, from the working directory too
    source = source_of(factory)
    out = folder / USER_CODE / source.name
    out.parent.mkdir()
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        shutil.copytree(source, out, ignore=ignored)
    else:
        shutil.copy2(source, out)
    return source_sha256(source)


def provide_factory(factory: str, folder: Path, sha256: str) -> None:
    """Make the factory importable, from the environment or else from the bundle, if it is the one that trained.

    Raises:
        DataError: Python would import another version.
    """
    top = factory.partition(":")[0].split(".")[0]
    if importlib.util.find_spec(top) is None:
        sys.path.append(str(folder / USER_CODE))
        importlib.invalidate_caches()
    source = source_of(factory)
    if source_sha256(source) != sha256:
        raise DataError(
            f"model.factory {factory!r}: Python imports {source}, which is not the source that this model was "
            f"trained with ({folder / USER_CODE}); put that one first, or load this model in a process of its own"
        )
