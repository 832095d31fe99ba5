"""A store in one JSON object: what ``metadist tasks inspect`` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks_store.reader import Store
from tasks_store.schema import column_to_json


def describe(store: Store) -> dict[str, Any]:
    """Plain JSON values about an open store; reads no data file.

    Returns:
        path, name, kind, fingerprint, format_version, groups, rows, bytes, columns, splits (each with
        groups, rows, domains and the smallest, median and largest group), source, licence, creator.
    """
    manifest = store.manifest
    splits = {}
    for name, summary in store.splits.items():
        index = store.groups(name)
        splits[name] = {
            "groups": summary.groups,
            "rows": summary.rows,
            "domains": len(set(index.domains) - {""}),
            "group_rows": {
                "min": int(index.counts.min()),
                "median": float(np.median(index.counts)),
                "max": int(index.counts.max()),
            },
        }
    return {
        "path": store.path,
        "name": manifest.name,
        "kind": manifest.kind,
        "fingerprint": store.fingerprint,
        "format_version": manifest.format_version,
        "groups": sum(summary.groups for summary in store.splits.values()),
        "rows": sum(summary.rows for summary in store.splits.values()),
        "bytes": manifest.index.bytes + sum(file.bytes for file in manifest.files),
        "columns": [column_to_json(column) for column in manifest.columns],
        "splits": splits,
        "source": manifest.source,
        "licence": manifest.licence,
        "creator": manifest.creator,
    }
