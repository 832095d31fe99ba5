"""Adapted states of many groups in a Parquet file: one row a group, one column a leaf."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from metadist.errors import DataError
from metadist.serving.inputs import Label

KEY = b"metadist.states"
GROUP, CLASSES = "group", "classes"


class StateWriter:
    """Writes states as they come; the file appears when all are written, and not at all where there were none.

    Args:
        path: The file.
        bundle: Identity of the model that adapted.
        inner_steps: How many it took.
    """

    def __init__(self, path: Path, *, bundle: str, inner_steps: int) -> None:
        self.path, self.facts = path, {"bundle": bundle, "inner_steps": inner_steps}
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._writer: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written, so that there is no file."""
        return self._writer is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._writer is not None:
            self._writer.close()
        if kind is None and self._writer is not None:
            os.replace(self._temporary, self.path)
        self._temporary.unlink(missing_ok=True)

    def write(
        self,
        names: Sequence[str],
        classes: Sequence[tuple[Label, ...]],
        leaves: Mapping[str, NDArray[np.float32]],
    ) -> None:
        """Append groups; each leaf is (T, ...).

        Raises:
            DataError: the disk does not take them.
        """
        columns: dict[str, Any] = {
            GROUP: pa.array(names, pa.string()),
            CLASSES: pa.array([json.dumps(labels) for labels in classes or [()] * len(names)], pa.string()),
        }
        for name, leaf in leaves.items():
            flat = np.ascontiguousarray(leaf, np.float32).reshape(len(names), -1)
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
        shapes = {name: list(leaf.shape[1:]) for name, leaf in leaves.items()}
        table = pa.table(columns).replace_schema_metadata({KEY: json.dumps({**self.facts, "shapes": shapes})})
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._temporary, table.schema, compression="zstd")
            self._writer.write_table(table)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error}") from error


def read_states(
    path: Path, bundle: str, rows: int
) -> Iterator[tuple[list[str], list[tuple[Label, ...]], dict[str, NDArray[np.float32]]]]:
    """The states of a file, up to ``rows`` groups at a time.

    Raises:
        DataError: no such file, no states, or those of another model.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path} as Parquet: {str(error).splitlines()[0]}") from None
    facts = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}"))
    if facts.get("bundle") != bundle:
        raise DataError(
            f"{path} holds states of model {facts.get('bundle', 'unknown')}, this one is {bundle}: adapt anew with "
            "--support"
        )
    for batch in file.iter_batches(rows):
        leaves = {
            name: batch.column(name).flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)
            for name, shape in facts["shapes"].items()
        }
        classes = [tuple(json.loads(text)) for text in batch.column(CLASSES).to_pylist()]
        yield batch.column(GROUP).to_pylist(), classes, leaves
