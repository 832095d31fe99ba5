"""Where a run's tasks lie: a path as given, a named store, or one of the stores that are built when missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from metadist.config import RunConfig
from tasks_store import Manifest, StoreExists, StoreMissing, named_store, resolve_store
from tasks_store.generators.customers import build_customers
from tasks_store.generators.glyphs import build_glyphs
from tasks_store.generators.sinusoids import build_sinusoids

GENERATORS: dict[str, Callable[[Path], Manifest]] = {
    "customers": build_customers,
    "glyphs": build_glyphs,
    "sinusoids": build_sinusoids,
}


def locate(config: RunConfig, on_message: Callable[[str], None]) -> str | None:
    """The absolute folder or URI of the run's store; None where tasks need none.

    A shipped generator's store is built when it is missing, since that needs no download.

    Raises:
        StoreMissing: the message holds the one command that makes the store.
    """
    name = config.tasks.path
    if name is None:
        return None
    try:
        return str(resolve_store(name))
    except StoreMissing:
        if name not in GENERATORS:
            raise
        out = named_store(name)
        on_message(f"the task store {name!r} is missing: building it in {out}")
        try:
            GENERATORS[name](out)
        except StoreExists:  # files of somebody else's, or the same store: another run was first
            with contextlib.suppress(StoreMissing):
                return str(resolve_store(name))
            raise
        return str(out)
