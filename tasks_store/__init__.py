"""Tasks for meta-learning in Parquet: write, verify, read, draw episodes.

A leaf package: it imports pyarrow and numpy, and knows neither training nor clusters.
"""

from __future__ import annotations

from tasks_store.cache import SplitData, load_split
from tasks_store.episodes import (
    Episode,
    EpisodeSpec,
    GroupDraw,
    GroupSpec,
    check_spec,
    draw_episode,
    draw_group,
    draw_rows,
    large_enough,
    wide_enough,
)
from tasks_store.errors import (
    CorruptStore,
    ImportFailed,
    NotEnoughExamples,
    SchemaMismatch,
    StoreEmpty,
    StoreExists,
    StoreMissing,
    StoreVersionError,
    TaskStoreError,
    WrongOptions,
)
from tasks_store.home import default_cache_dir, is_bare_name, metadist_home, named_store, resolve_store
from tasks_store.index import GroupIndex
from tasks_store.manifest import FileEntry, Manifest, SplitSummary, load_manifest
from tasks_store.reader import Store
from tasks_store.schema import FORMAT_VERSION, Column, Kind
from tasks_store.writer import write_store

__all__ = [
    "FORMAT_VERSION",
    "Column",
    "CorruptStore",
    "Episode",
    "EpisodeSpec",
    "FileEntry",
    "GroupDraw",
    "GroupIndex",
    "GroupSpec",
    "ImportFailed",
    "Kind",
    "Manifest",
    "NotEnoughExamples",
    "SchemaMismatch",
    "SplitData",
    "SplitSummary",
    "Store",
    "StoreEmpty",
    "StoreExists",
    "StoreMissing",
    "StoreVersionError",
    "TaskStoreError",
    "WrongOptions",
    "check_spec",
    "default_cache_dir",
    "draw_episode",
    "draw_group",
    "draw_rows",
    "is_bare_name",
    "large_enough",
    "load_manifest",
    "load_split",
    "metadist_home",
    "named_store",
    "resolve_store",
    "wide_enough",
    "write_store",
]
