"""Code of the user's own as it travels to workers: files by name, which each node unpacks into a folder of its own.

What travels: the sources that the fingerprint names, unless they are installed; and, where there is a ``working_dir``,
all of that folder. So a worker needs neither a shared disk nor the code's own path.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from metadist.durable import writing
from metadist.errors import ConfigError, DataError
from metadist.own.source import digest, files_of, is_installed, sources_of
from tasks_store import metadist_home

LIMIT = 20 * 2**20  # bytes: code is small, and data have their own way to the workers
NAMED = 5  # files in the message about too many
MARKS = ("manifest.json", "journal.jsonl", "resolved.yaml", "pyvenv.cfg", "MLmodel")
"""A folder with one of these is a store, a run, an environment or a model."""
LEFT_OUT = ("__pycache__", "mlruns", "mlartifacts", "node_modules", "mlflow.db")


def packed(paths: Mapping[str, str], working_dir: str | None) -> dict[str, bytes]:
    """Name (from the search folder on) -> content of every file that travels.

    Args:
        paths: Configuration key -> import path of the user's parts.
        working_dir: A folder that travels as a whole; hidden files, stores, runs, environments and models in it do not.

    Raises:
        ConfigError: there is no such folder or module, or the files are too large together.
    """
    folder = Path(working_dir) if working_dir else None
    places = dict(_files_in(folder)) if folder else {}
    for source in sources_of(paths):
        if not is_installed(source.path):
            places.update(files_of(source))  # what the driver imports, should the folder have another of its name
    sizes = {name: place.stat().st_size for name, place in places.items()}
    if sum(sizes.values()) > LIMIT:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:NAMED]
        listed = ", ".join(f"{name} {_megabytes(sizes[name])}" for name in largest)
        raise ConfigError(
            f"{folder or 'code of your own'}: {len(sizes)} files with {_megabytes(sum(sizes.values()))} would travel "
            f"to every worker, the limit is {_megabytes(LIMIT)}; the largest: {listed}. Let --working-dir name a "
            "folder of code alone: data belong into a store, weights into model.weights"
        )
    return {name: place.read_bytes() for name, place in sorted(places.items())}


def unpacked(files: Mapping[str, bytes]) -> Path:
    """The folder of this node that holds ``files``: under METADIST_HOME, named by their hash, made once.

    Raises:
        DataError: it is there and holds something else.
        SaveFailed: it cannot be written.
    """
    contents = {name: digest(content) for name, content in files.items()}
    folder = metadist_home() / "code" / digest(repr(sorted(contents.items())).encode())[:32]
    with writing(folder):
        if not folder.is_dir():
            _make(folder, files)
        other = [name for name, expected in contents.items() if not _has(folder / name, expected)]
    if other:
        raise DataError(f"{folder / other[0]} is not what the driver sent: remove {folder} on this node and run again")
    return folder


def _make(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    temporary.chmod(0o755)  # as any folder: users may share METADIST_HOME
    for name, content in files.items():
        place = temporary / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
        if not folder.is_dir():  # else another worker of this node was first
            raise


def _has(place: Path, expected: str) -> bool:
    return place.is_file() and digest(place.read_bytes()) == expected


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise ConfigError(f"--working-dir (working_dir) {folder} is not a folder")
    for here, folders, names in os.walk(folder):
        place = Path(here)
        if place != folder and any(mark in names for mark in MARKS):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _left_out(name))
        for name in sorted(names):
            if not _left_out(name) and (place / name).is_file():
                yield (place / name).relative_to(folder).as_posix(), place / name


def _left_out(name: str) -> bool:
    return name.startswith(".") or name in LEFT_OUT


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
