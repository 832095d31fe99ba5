"""Transforms fitted on the training split of a store, once a machine: what they learned is kept beside the caches.

It is a pure function of the split's content, the column, the transforms and the source of the user's own ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metadist.config.presets import is_own
from metadist.config.transforms import Transform, is_pretrained
from metadist.durable import write_synced, writing
from metadist.errors import DataError
from metadist.own.source import hashes_of
from metadist.transforms import Chain, build_steps, fit_chain, read_chain
from metadist.transforms.chain import KEY
from metadist.transforms.pretrained import tokenizer_file
from metadist.transforms.step import Array
from metadist.version import __version__
from tasks_store import Store, default_cache_dir, load_split

SPLIT = "train"


def fitted_chain(transforms: Sequence[Transform], store: Store, column: str, key: str = KEY) -> Chain:
    """The transforms of ``column``, fitted on the training split and on nothing else; ``key`` is the configuration's,
    for messages.

    Raises:
        DataError: there is no training split, a transform cannot be fitted on it, or what was kept is damaged.
        ConfigError: a transform of the user's own fails.
    """
    if all(step.fit is None for step in build_steps(transforms, key)):
        return read_chain(transforms, {}, key)
    if SPLIT not in store.splits:
        raise DataError(f"{store.path} has no split {SPLIT!r} to fit {key} on; it has {', '.join(store.splits)}")
    path = default_cache_dir() / f"fitted-{_name(transforms, store, column)}.npz"
    if path.exists():
        return read_chain(transforms, _read(path), key)
    chain = fit_chain(transforms, lambda: load_split(store, SPLIT).arrays[column], key)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **chain.arrays())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # another driver may write the same file now
    write_synced(temporary, packed.getvalue())
    with writing(path):
        os.replace(temporary, path)
    return chain


def _name(transforms: Sequence[Transform], store: Store, column: str) -> str:
    own = {f"{KEY}.{place}": part.name for place, part in enumerate(transforms) if is_own(part.name)}
    described = {
        "version": __version__,
        "split": store.splits[SPLIT].content_sha256,
        "column": [column, store.columns[column].dtype, store.columns[column].shape],
        "transforms": [transform.model_dump(mode="json") for transform in transforms],
        "code": hashes_of(own),
        "files": [_sha256(tokenizer_file(part.options["path"])) for part in transforms if is_pretrained(part)],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}, what transforms learned, is damaged ({error}); delete it and run again") from None
