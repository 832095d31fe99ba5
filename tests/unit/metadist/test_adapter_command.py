"""``metadist adapt`` and ``metadist describe`` on a bundle folder, as a shell calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from metadist import load_adapter
from metadist.adapter import Adapter
from metadist.cli import app
from metadist.commands.register import _lines, alone
from metadist.registry import build_bundle
from tasks_store import Store
from tests.support.quick import NoMirror
from tests.support.toys import image_run


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    folder = tmp_path_factory.mktemp("command")
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        run = image_run(folder)
    return load_adapter(build_bundle(run.run_dir, run.checkpoint("best"), num_tasks=4).folder)


@pytest.fixture
def images(adapter: Adapter) -> dict[str, np.ndarray[Any, Any]]:
    """Images of three test classes by a name."""
    store = Store.open(str(adapter.bundle.config.tasks.path))
    return {name: store.read_group("test", group)["image"] for group, name in enumerate(("ash", "elm", "oak"))}


def table(images: dict[str, Any], places: slice, how: str, label: str | None = "label") -> pa.Table:
    rows = [(name, image) for name, stack in images.items() for image in stack[places]]
    if how == "bytes":  # as a store holds them
        column = pa.array([image.tobytes() for _, image in rows], pa.binary(144))
    else:
        column = pa.array([image.tolist() for _, image in rows])
    columns = {"image": column, "note": pa.array([f"row {i}" for i in range(len(rows))])}
    return pa.table({**columns, **({label: pa.array([name for name, _ in rows])} if label else {})})


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("how", ["bytes", "lists"])
def test_adapt_to_a_file(adapter: Adapter, images: dict[str, Any], tmp_path: Path, how: str) -> None:
    support, query, out = tmp_path / "support.parquet", tmp_path / "query.parquet", tmp_path / "out.parquet"
    pq.write_table(table(images, slice(0, 2), how), support)
    pq.write_table(table(images, slice(2, 5), how, label=None), query)
    files = ["--support", str(support), "--query", str(query), "--out", str(out)]
    code, text, _ = call("adapt", str(adapter.bundle.folder), *files, "--json")
    assert code == 0
    result = json.loads(text)
    assert result["classes"] == ["ash", "elm", "oak"] and result["queries"] == 9 and result["inner_steps"] == 2
    written = pq.read_table(out)
    assert written.column_names == ["note", "predicted", "probability"]
    x = np.concatenate([stack[:2] for stack in images.values()])
    predictor = adapter.adapt(x, [name for name in images for _ in range(2)])
    queries = np.concatenate([stack[2:5] for stack in images.values()])
    assert written["predicted"].to_pylist() == predictor.predict(queries).tolist()
    assert np.array_equal(np.array(written["probability"], np.float32), predictor.predict_proba(queries).max(-1))


def test_each_groups_labels_are_its_own(adapter: Adapter, images: dict[str, Any], tmp_path: Path) -> None:
    """Queries of two groups in turns, with probabilities, as JSON lines."""
    support, query, out = tmp_path / "support.parquet", tmp_path / "query.parquet", tmp_path / "out.JSONL"
    halves: dict[Path, list[pa.Table]] = {support: [], query: []}
    for who in ("007", "7"):
        named = {f"{name} {who}": stack for name, stack in images.items()}
        for path, places in ((support, slice(0, 2)), (query, slice(2, 5))):
            own = table(named, places, "bytes")
            halves[path].append(own.append_column("who", pa.array([who] * len(own))))
    pq.write_table(pa.concat_tables(halves[support]), support)
    turns = [place + 9 * half for place in range(9) for half in range(2)]
    pq.write_table(pa.concat_tables(halves[query]).take(turns), query)
    files = ["--support", str(support), "--query", str(query), "--out", str(out), "--group", "who"]
    code, _, errors = call("adapt", str(adapter.bundle.folder), *files)
    assert code == 0, errors
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["who"] for row in rows] == ["007", "7"] * 9
    assert all(row["predicted"].endswith(f" {row['who']}") for row in rows)
    x = np.concatenate([stack[:2] for stack in images.values()])
    predictor = adapter.adapt(x, [name for name in images for _ in range(2)])
    queries = np.concatenate([stack[2:5] for stack in images.values()])
    expected = predictor.predict_proba(queries).max(-1)
    for who in ("007", "7"):
        mine = [row for row in rows if row["who"] == who]
        assert np.allclose([row["probability"] for row in mine], expected, atol=1e-4)


def test_files_that_do_not_fit(adapter: Adapter, images: dict[str, Any], tmp_path: Path) -> None:
    support, out = tmp_path / "support.parquet", tmp_path / "out.parquet"
    whole = table(images, slice(0, 2), "bytes")
    short = whole.set_column(0, "image", pa.array([b"12"] * 6))
    with_null = whole.set_column(2, "label", pa.array([None, *whole["label"].to_pylist()[1:]]))
    cases = {
        "has no column 'image'": whole.drop_columns("image"),
        "has no column 'label'": whole.drop_columns("label"),
        "2 bytes": short,
        "'label' has 1 nulls": with_null,
    }
    for message, bad in cases.items():
        pq.write_table(bad, support)
        files = ["--support", str(support), "--query", str(support), "--out", str(out)]
        code, _, errors = call("adapt", str(adapter.bundle.folder), *files)
        assert code == 65 and message in errors and not out.exists()
    support.write_bytes(b"not parquet")
    code, _, errors = call(
        "adapt", str(adapter.bundle.folder), "--support", str(support), "--query", "q.csv", "--out", "o.csv"
    )
    assert code == 65 and "cannot read" in errors


def test_describe_a_bundle_and_its_run(adapter: Adapter) -> None:
    code, text, _ = call("describe", str(adapter.bundle.folder), "--json")
    assert code == 0
    about = json.loads(text)
    assert about["bundle"] == adapter.bundle.id and about["input"]["name"] == "image"
    inputs = about["request"]["inputs"]
    assert adapter.adapt(inputs["support_x"], inputs["support_y"]).predict(inputs["query_x"]).shape == (9,)
    run_dir = adapter.bundle.folder.parents[1]
    code, text, _ = call("describe", str(run_dir), "--json")
    assert code == 0 and json.loads(text)["fingerprints"]["store"] == adapter.bundle.facts["fingerprints"]["store"]
    assert json.loads(text)["bundles"] == [str(adapter.bundle.folder)]
    for target in (adapter.bundle.folder, run_dir):
        assert call("describe", str(target))[0] == 0
    for target, message in (
        (str(run_dir.parent), "holds neither a run nor a model: name a run folder"),
        ("nonexist", "nonexist is neither a run folder nor a model: name a run folder"),
        ("models:/", "models:/ names no model: write models:/NAME@ALIAS"),
        ("models:/toy", "models:/toy names no model: write models:/NAME@ALIAS"),
    ):
        code, _, errors = call("describe", target)
        assert code == 65 and message in " ".join(errors.split())


def test_one_query_at_a_time_stands_beside_the_same_queries(adapter: Adapter) -> None:
    report = adapter.bundle.report
    found = report["one_query"]
    together, by_itself = (100 * found[how]["accuracy"] for how in ("in_one_pass", "alone"))
    text = alone(report)
    assert text.startswith(f"one query at a time accuracy {by_itself:.1f} +-")
    assert text.endswith(f"the same 3 queries a task in one pass {together:.1f} %")
    result = {"report": report, "is_new": True, "model_uri": "u", "version": 1, "tracking_uri": "t"}
    lines = list(_lines({**result, "bundle": "b", "bundle_dir": "d"}))
    assert "all queries (4 test tasks" in lines[2] and lines[3] == f"alone      {text}"
    assert abs(together - by_itself) < 1e-9, "inductive: a query does not see the others"
    assert text in call("describe", str(adapter.bundle.folder))[1]


def test_what_out_cannot_take_is_said_before_anything_is_computed(
    adapter: Adapter, images: dict[str, Any], tmp_path: Path
) -> None:
    support, query = tmp_path / "support.parquet", tmp_path / "query.parquet"
    pq.write_table(table(images, slice(0, 2), "bytes"), support)
    pq.write_table(table(images, slice(2, 5), "bytes").append_column("l", pa.array([[1]] * 9)), query)
    for out, message in (("o.csv", "column 'l' is list<"), ("o.xls", "the suffix '.xls' is none of")):
        files = ["--support", str(support), "--query", str(query), "--out", str(tmp_path / out)]
        code, _, errors = call("adapt", str(adapter.bundle.folder), *files)
        assert code == 65 and message in errors and not (tmp_path / out).exists()
