"""Tables of Hugging Face's datasets come in with their class names, and stores go out as files it reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks_store import ImportFailed, Store, StoreExists, load_split
from tasks_store.export import export_parquet
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["balance", "transfer", "flight"], "_type": "ClassLabel"},
}
OPTIONS: dict[str, Any] = {"label": "label", "value": ("text",), "split": "0.34,0.33,0.33", "missing": "drop"}


def _table(features: object = FEATURES) -> Any:
    labels = [0, 1, 2, -1, 2, 1, 0]
    table = pa.table({"text": [f"text {place}" for place in range(7)], "label": pa.array(labels, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _save(table: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as sink:
        sink.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))


@pytest.mark.parametrize("form", ["parquet", "saved", "saved splits"])
def test_classes_have_their_names(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source.parquet"
    if form == "parquet":
        pq.write_table(_table(), source)
    elif form == "saved":
        _save(_table(), source := tmp_path / "saved")
    else:
        _save(_table().slice(0, 3), tmp_path / "saved" / "train")
        _save(_table().slice(3), tmp_path / "saved" / "test")
        (source := tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        source = source.parent
    _, summary = import_table(TableRequest(files=(source,), **OPTIONS), tmp_path / "s")
    store = Store.open(tmp_path / "s")
    found = {name: split for split in store.splits for name in store.groups(split).names}
    assert sorted(found) == ["balance", "flight", "transfer"]
    assert load_split(store, found["flight"]).arrays["text"].tolist() == ["text 2", "text 4"]
    assert summary.dropped == {"gaps": 1}, "-1 is no class"


def _pictures(broken: bool = False) -> Any:
    """Of each class four pictures of 12 x 8 in a colour of its own; one row has a path alone."""
    rows, labels = [], []
    for label, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        for number in range(4):
            file = io.BytesIO()
            Image.new("RGB", (12, 8), colour).save(file, format="PNG")
            rows.append({"bytes": file.getvalue(), "path": f"{label}-{number}.png"})
            labels.append(label)
    rows[0] = {"bytes": None, "path": "0-0.png"}
    if broken:
        rows[5]["bytes"] = rows[5]["bytes"][:30]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"names": ["red", "green", "blue"], "_type": "ClassLabel"}}
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 6)])
def test_pictures_become_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pq.write_table(_pictures(), tmp_path / "t.parquet")
    options = {**OPTIONS, "value": ("image",), "shape": shape}
    _, summary = import_table(TableRequest(files=(tmp_path / "t.parquet",), **options), tmp_path / "s")
    assert (summary.read, summary.kept, summary.dropped) == (12, 11, {"gaps": 1})
    store = Store.open(tmp_path / "s")
    assert store.columns["image"].shape == shape and store.columns["image"].dtype == "uint8" and len(store.verify())
    colours = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    for split in store.splits:
        data = load_split(store, split)
        for place, name in enumerate(data.names):
            images = data.arrays["image"][data.offsets[place] : data.offsets[place + 1]]
            expected = colours[name] if len(shape) == 3 else round(np.dot(colours[name], (0.299, 0.587, 0.114)))
            assert len(images) == (3 if name == "red" else 4) and (images == expected).all()


def test_pictures_refused(tmp_path: Path) -> None:
    pq.write_table(_pictures(broken=True), tmp_path / "t.parquet")
    options = {**OPTIONS, "value": ("image",)}
    for shape in ((), (4,), (4, 4, 4)):
        with pytest.raises(ImportFailed, match=r"'image' holds pictures, and --shape is .*: say what they become"):
            import_table(TableRequest(files=(tmp_path / "t.parquet",), **options, shape=shape), tmp_path / "s")
    with pytest.raises(ImportFailed, match=r"column 'image': the picture 1-1\.png cannot be decoded: .*--where"):
        import_table(TableRequest(files=(tmp_path / "t.parquet",), **options, shape=(4, 4)), tmp_path / "s")
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImportFailed, match=r"not one of datasets' save_to_disk .*name its files, each with --from"):
        import_table(TableRequest(files=(tmp_path / "folder",), **OPTIONS), tmp_path / "s")
    pq.write_table(_table().replace_schema_metadata({"huggingface": "{"}), tmp_path / "t.parquet")
    with pytest.raises(ImportFailed, match="metadata 'huggingface' is not what datasets writes"):
        import_table(TableRequest(files=(tmp_path / "t.parquet",), **OPTIONS), tmp_path / "s")


def test_a_store_goes_out_as_plain_parquet(small: Path, tmp_path: Path) -> None:
    store = Store.open(small)
    files = export_parquet(store, tmp_path / "out")
    assert sorted(file.name for file in files) == ["test.parquet", "train.parquet", "validation.parquet"]
    for file in files:
        table, data = pq.read_table(file), load_split(store, file.stem)
        assert sorted(set(table["group"].to_pylist())) == data.names
        for name, values in data.arrays.items():
            assert table[name].to_pylist() == values.tolist()
    with pytest.raises(StoreExists, match="is not empty"):
        export_parquet(store, tmp_path / "out")
    with pytest.raises(StoreExists, match=r"train\.parquet is a file; choose a folder"):
        export_parquet(store, tmp_path / "out" / "train.parquet")


@pytest.mark.parametrize("value", ["image", "vector", "text"])
def test_an_exported_table_comes_in_again(small: Path, tmp_path: Path, value: str) -> None:
    """With its splits, and with the shapes of its arrays."""
    store = Store.open(small)
    files = tuple(export_parquet(store, tmp_path / "out"))
    request = TableRequest(files=files, label="group", value=(value,), split_column="split")
    import_table(request, tmp_path / "again")
    again = Store.open(tmp_path / "again")
    assert again.columns[value] == store.columns[value] and sorted(again.splits) == sorted(store.splits)
    for split in store.splits:
        before, after = load_split(store, split), load_split(again, split)
        assert after.names == before.names
        np.testing.assert_array_equal(after.arrays[value], before.arrays[value])
