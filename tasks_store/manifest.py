"""``manifest.json``: the file whose presence makes a store visible, and what it promises.

The *fingerprint* is over the content: format, kind, columns and, per split, the groups and the
decoded values. File names, compression, the Parquet writer, source and licence do not enter, so
that a store built again elsewhere keys the same evaluation tasks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tasks_store.errors import CorruptStore, SchemaMismatch, StoreMissing, StoreVersionError
from tasks_store.schema import FORMAT_VERSION, Column, Kind, column_from_json, column_to_json
from tasks_store.storage import Location

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One Parquet file of a store."""

    path: str
    """Name inside the store's folder; carries the first 16 digits of its sha256."""
    sha256: str
    rows: int
    bytes: int
    footer_sha256: str = ""
    """SHA-256 of the Parquet footer: page checksums do not cover it."""
    split: str = ""
    """The split it holds; '' for the group index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """Size and content of one split."""

    groups: int
    rows: int
    content_sha256: str
    """Over group names, domains, counts and every decoded value in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is known of a store without opening its data."""

    name: str
    kind: Kind
    columns: tuple[Column, ...]
    files: tuple[FileEntry, ...]
    index: FileEntry
    splits: Mapping[str, SplitSummary]
    source: str = ""
    licence: str = ""
    creator: str = ""
    format_version: int = FORMAT_VERSION

    def fingerprint(self) -> str:
        """SHA-256 hex digits over the content."""
        content = {
            "format_version": self.format_version,
            "kind": self.kind,
            "columns": [column_to_json(column) for column in self.columns],
            "splits": {name: _plain(split) for name, split in self.splits.items()},
        }
        return hashlib.sha256(_canonical(content)).hexdigest()


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON text, with its fingerprint and a checksum of itself."""
    body = {
        "format_version": manifest.format_version,
        "name": manifest.name,
        "kind": manifest.kind,
        "columns": [column_to_json(column) for column in manifest.columns],
        "splits": {name: _plain(split) for name, split in manifest.splits.items()},
        "files": [_plain(file) for file in manifest.files],
        "index": _plain(manifest.index),
        "source": manifest.source,
        "licence": manifest.licence,
        "creator": manifest.creator,
        "fingerprint": manifest.fingerprint(),
    }
    body["checksum"] = hashlib.sha256(_canonical(body)).hexdigest()
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def parse_manifest(text: bytes, shown: str) -> Manifest:
    """The manifest from its JSON text; ``shown`` is its path for messages.

    Raises:
        StoreVersionError: a newer format.
        CorruptStore: not JSON, not a manifest, or changed after it was written.
    """
    try:
        body = json.loads(text)
        version = int(body["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptStore(
            f"{shown} is not a readable manifest: restore it or build the store again", path=shown
        ) from error
    if version > FORMAT_VERSION:
        raise StoreVersionError(
            f"{shown} has format {version}, this tasks_store reads up to {FORMAT_VERSION}: "
            "upgrade metadist, or build the store again",
            found=version,
            supported=FORMAT_VERSION,
        )
    checksum = body.pop("checksum", None)
    if checksum != hashlib.sha256(_canonical(body)).hexdigest():
        raise CorruptStore(f"{shown} does not match its own checksum: restore it or build the store again", path=shown)
    try:
        return Manifest(
            format_version=version,
            name=body["name"],
            kind=cast(Kind, body["kind"]),
            columns=tuple(column_from_json(column) for column in body["columns"]),
            files=tuple(FileEntry(**file) for file in body["files"]),
            index=FileEntry(**body["index"]),
            splits={name: SplitSummary(**split) for name, split in body["splits"].items()},
            source=body["source"],
            licence=body["licence"],
            creator=body["creator"],
        )
    except (KeyError, TypeError, SchemaMismatch) as error:
        raise CorruptStore(
            f"{shown} lacks or misspells a field ({error}): build the store again", path=shown
        ) from error


def load_manifest(root: str | Path | Location) -> Manifest:
    """Read the manifest of the store at a path or URI.

    Raises:
        StoreMissing: there is none.
        StoreVersionError, CorruptStore: see :func:`parse_manifest`.
    """
    location = root if isinstance(root, Location) else Location.of(root)
    if location.size(MANIFEST) is None:
        raise StoreMissing(f"no task store at {location.display}: it has no {MANIFEST}", path=location.display)
    return parse_manifest(location.read(MANIFEST), location.shown(MANIFEST))


def _plain(entry: FileEntry | SplitSummary) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
