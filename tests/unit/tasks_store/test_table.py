"""A labelled Parquet table becomes a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks_store import Column, ImportFailed, SchemaMismatch, Store, load_split
from tasks_store.importers.table import import_table


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve texts with an integer label, a dictionary-encoded domain and a picture."""
    pixels = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3)
    table = pa.table(
        {
            "intent": pa.array([n % 4 for n in range(12)]),
            "text": [f"text {n}" for n in range(12)],
            "score": pa.array(np.arange(12, dtype=np.float32)),
            "area": pa.array(["bank" if n % 4 < 2 else "travel" for n in range(12)]).dictionary_encode(),
            "part": ["train" if n % 4 < 3 else "test" for n in range(12)],
            "pixels": pa.array([image.tobytes() for image in pixels], type=pa.binary(6)),
        }
    )
    pq.write_table(table, tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def test_names_and_columns(source: Path, tmp_path: Path) -> None:
    columns: list[Any] = ["text", "score"]
    import_table(source, tmp_path / "s", label="intent", columns=columns, domain="area", split="part")
    store = Store.open(tmp_path / "s")
    assert store.manifest.name == "texts"
    assert store.columns["text"].dtype == "string"
    assert store.columns["score"].dtype == "float32"
    train = load_split(store, "train")
    assert train.names == ["0", "1", "2"]
    assert train.domains == ["bank", "bank", "travel"]
    assert train.arrays["text"][:3].tolist() == ["text 0", "text 4", "text 8"], "row order is kept"
    assert len(store.verify()) == 3


def test_arrays_need_a_column(source: Path, tmp_path: Path) -> None:
    pixels = Column(name="pixels", dtype="uint8", shape=(2, 3))
    import_table(source, tmp_path / "s", label="intent", columns=[pixels], split="part")
    assert load_split(Store.open(tmp_path / "s"), "test").arrays["pixels"][0].tolist() == [[18, 19, 20], [21, 22, 23]]
    with pytest.raises(ImportFailed, match=r"'pixels' is fixed_size_binary.*give a Column"):
        import_table(source, tmp_path / "t", label="intent", columns=["pixels"], split="part")
    wrong = Column(name="pixels", dtype="uint8", shape=(2, 2))
    with pytest.raises(SchemaMismatch, match="'pixels'"):
        import_table(source, tmp_path / "t", label="intent", columns=[wrong], split="part")


def test_split_file(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"note": "by hand", "train": [0, 1], "test": [2, 3]}))
    import_table(source, tmp_path / "s", label="intent", columns=["text"], split_file=file)
    assert Store.open(tmp_path / "s").groups("test").names == ["2", "3"]
    for content, message in (
        ({"train": [0, 1], "test": [2]}, "1 labels of the table are in no split, e.g. '3'"),
        ({"train": [0, 1], "test": [1, 2, 3]}, "label '1' is in both 'train' and 'test'"),
        ([], "expected a JSON object"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(ImportFailed, match=message):
            import_table(source, tmp_path / "t", label="intent", columns=["text"], split_file=file)
    file.write_text("{")
    with pytest.raises(ImportFailed, match="cannot read the split file"):
        import_table(source, tmp_path / "t", label="intent", columns=["text"], split_file=file)


def test_bad_tables(source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"label": "intent", "columns": ["text"], "split": "part"}
    with pytest.raises(ImportFailed, match="has no column label; it has intent, text"):
        import_table(source, tmp_path / "s", **{**options, "label": "label"})
    with pytest.raises(ImportFailed, match="either split"):
        import_table(source, tmp_path / "s", **{**options, "split": None})
    with pytest.raises(ImportFailed, match="as Parquet"):
        import_table(tmp_path / "none.parquet", tmp_path / "s", **options)
    (tmp_path / "x.parquet").write_text("no table")
    with pytest.raises(ImportFailed, match="as Parquet"):
        import_table(tmp_path / "x.parquet", tmp_path / "s", **options)
    with pytest.raises(SchemaMismatch, match="lies in two splits"):
        import_table(source, tmp_path / "s", **{**options, "label": "area"})
    pq.write_table(pa.table({"intent": [1, None], "text": ["a", "b"], "part": ["x", "x"]}), tmp_path / "n.parquet")
    with pytest.raises(ImportFailed, match="1 missing values"):
        import_table(tmp_path / "n.parquet", tmp_path / "s", **options)
