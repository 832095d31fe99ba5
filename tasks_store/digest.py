"""The content digest of a split: what the store says, whatever the file that says it.

Fed with decoded rows in stored order, in pieces of any size: the digest depends on the values and
not on row groups, compression or the Parquet writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tasks_store.schema import Column, decode


class ContentDigest:
    """Feed tables in order, then ask once for the digest."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._digests = [hashlib.sha256() for _ in columns]

    def update(self, table: Any) -> None:
        """Add the rows of a pyarrow table that has all the columns."""
        for column, digest in zip(self._columns, self._digests, strict=True):
            values = decode(table.column(column.name), column)
            if column.dtype == "string":
                for text in values:
                    digest.update(_framed(text))
            else:
                digest.update(np.ascontiguousarray(values).data)

    def hexdigest(self, groups: Iterable[tuple[str, str, int]]) -> str:
        """SHA-256 hex over the columns and the (name, domain, count) of the groups, all in order."""
        total = hashlib.sha256()
        for column, digest in zip(self._columns, self._digests, strict=True):
            total.update(_framed(column.name))
            total.update(digest.digest())
        for name, domain, count in groups:
            total.update(_framed(name))
            total.update(_framed(domain))
            total.update(count.to_bytes(8, "little"))
        return total.hexdigest()


def _framed(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw
