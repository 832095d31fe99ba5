"""A registered model adapted to every group of a table: the same answers as one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metadist.adapter import Adapter
from metadist.answers import groups
from metadist.answers.groups import PASS, ROWS
from metadist.answers.tables import answer_groups, answer_states
from metadist.cli import app
from metadist.config.load import load_config
from metadist.errors import DataError
from metadist.registry import build_bundle
from tests.support.quick import IMAGE_RUN, train_quickly

pytestmark = pytest.mark.slow
FEW = {"outer.num_steps": 20, "evaluation.num_tasks": 4, "evaluation.validation_tasks": 4}


@pytest.fixture(scope="module")
def personal(customers: str, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """A regression from 0 to 20 rows, by gradient descent on an mlp."""
    recipe = load_config("customers", {**FEW, "algorithm": {"name": "maml", "inner_steps": 2, "inner_lr": 0.05}})
    run = train_quickly(recipe, {}, tmp_path_factory.mktemp("personal") / "run")  # type: ignore[arg-type]
    return Adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3))


@pytest.fixture(scope="module")
def characters(omniglot: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapter]:
    """Classifiers with a batch norm, in both modes."""
    found = {}
    for mode in ("inductive", "transductive"):
        settings = {"algorithm.normalisation": mode, "tasks.ways": 3, "algorithm.inner_steps": 2}
        run = train_quickly(IMAGE_RUN, settings, tmp_path_factory.mktemp(mode) / "run")
        found[mode] = Adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3, allow_transductive=True))
    return found


def people(folder: Path, sizes: list[tuple[int, int]]) -> dict[str, Any]:
    """Support and query rows of customers in mixed order, with the arrays of each."""
    draw, rows, each = np.random.default_rng(1), {"support": [], "query": []}, {}
    for number, counts in enumerate(sizes):
        name = f"customer {number}"
        each[name] = {}
        for half, count in zip(rows, counts, strict=True):
            x, y = draw.normal(size=(count, 4)).astype(np.float32), draw.normal(size=count).astype(np.float32)
            each[name][half] = (x, y)
            rows[half] += [{"who": name, "x": a.tolist(), "y": float(b)} for a, b in zip(x, y, strict=True)]
    for half, listed in rows.items():
        order = draw.permutation(len(listed)) if half == "query" else np.arange(len(listed))
        pq.write_table(pa.Table.from_pylist([listed[place] for place in order]), folder / f"{half}.parquet")
    return each


def test_the_answers_are_those_of_one_by_one(personal: Adapter, tmp_path: Path) -> None:
    """Groups of unequal sizes, more than one pass of a size, some without support rows, some without queries."""
    sizes = [(number % 4, 1 + number % 3) for number in range(4 * PASS // 3)] + [(2, 0)]
    each = people(tmp_path, sizes)
    paths = tmp_path / "support.parquet", tmp_path / "query.parquet", tmp_path / "out.parquet"
    found = answer_groups(personal, *paths, group="who", label="y", save_states=tmp_path / "states.parquet")
    assert found["groups"] == len(sizes) - 1 and found["groups_without_queries"] == 1
    table = pq.read_table(paths[2]).to_pylist()
    queries = pq.read_table(paths[1]).to_pylist()
    assert [row["who"] for row in table] == [row["who"] for row in queries], "answers stand beside their rows"
    compared = 0
    for number in range(0, len(sizes) - 1, 37):
        name = f"customer {number}"
        places = [place for place, row in enumerate(queries) if row["who"] == name]
        alone = personal.adapt(*each[name]["support"]).predict(np.array([queries[place]["x"] for place in places]))
        assert np.allclose([table[place]["predicted"] for place in places], alone, rtol=1e-4, atol=1e-5)
        compared += len(alone)
    assert compared > 10 and len({round(row["predicted"], 6) for row in table}) > len(table) // 2
    again = answer_states(personal, tmp_path / "states.parquet", paths[1], tmp_path / "again.parquet", group="who")
    assert again["queries"] == len(queries)
    repeated = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert np.allclose([row["predicted"] for row in repeated], [row["predicted"] for row in table], rtol=1e-5)


@pytest.mark.parametrize("most", [ROWS, 3])
@pytest.mark.parametrize("mode", ["inductive", "transductive"])
def test_classes_are_each_groups_own(
    mode: str, most: int, characters: dict[str, Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of a group are its own strings; transductive queries are not padded or parted: they see each other."""
    monkeypatch.setattr(groups, "ROWS", most)
    adapter, draw = characters[mode], np.random.default_rng(2)
    rows: dict[str, list[dict[str, Any]]] = {"support": [], "query": []}
    for number in range(8):
        labels = [f"{letter}{number}" for letter in "abc"]
        for half, count in (("support", 3), ("query", 2 + number % 3)):
            for place in range(count):
                image = draw.integers(0, 256, (28, 28), np.uint8)
                rows[half].append({"who": number, "image": image.tobytes(), "label": labels[place % 3]})
    for half, listed in rows.items():
        pq.write_table(pa.Table.from_pylist(listed), tmp_path / f"{half}.parquet")
    paths = tmp_path / "support.parquet", tmp_path / "query.parquet", tmp_path / "out.parquet"
    answer_groups(adapter, *paths, group="who", label="label", save_states=tmp_path / "states.parquet")
    table = pq.read_table(paths[2]).to_pylist()
    for number in range(8):
        x = {
            half: np.stack([np.frombuffer(r["image"], np.uint8) for r in listed if r["who"] == number])
            for half, listed in rows.items()
        }
        alone = adapter.adapt(x["support"].reshape(-1, 28, 28), [f"{letter}{number}" for letter in "abc"])
        likely = alone.predict_proba(x["query"].reshape(-1, 28, 28))
        mine = [row for row in table if row["who"] == number]
        assert np.allclose([row["probability"] for row in mine], likely.max(1), atol=1e-4)
        sure = likely.max(1) - np.sort(likely, 1)[:, -2] > 1e-3
        said = np.array([row["predicted"] for row in mine])
        assert np.array_equal(said[sure], np.array(alone.classes)[likely.argmax(1)][sure])
    states = pq.read_table(tmp_path / "states.parquet")
    kept = [name for name in states.column_names if name.startswith("params.")]
    assert kept and len(states) == 8
    answer_states(adapter, tmp_path / "states.parquet", paths[1], tmp_path / "again.parquet", group="who")
    repeated = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert [row["predicted"] for row in repeated] == [row["predicted"] for row in table]


def test_without_queries_there_are_no_states(personal: Adapter, tmp_path: Path) -> None:
    people(tmp_path, [(2, 1)])
    support, states, out = tmp_path / "support.parquet", tmp_path / "states.parquet", tmp_path / "out.parquet"
    rows = pq.read_table(tmp_path / "query.parquet")
    pq.write_table(rows.slice(0, 0), tmp_path / "none.parquet")
    found = answer_groups(personal, support, tmp_path / "none.parquet", out, group="who", label="y", save_states=states)
    assert found["states"] is None and not states.exists() and found["queries"] == 0
    assert pq.read_table(out).num_rows == 0 and "predicted" in pq.read_schema(out).names


def test_names_in_a_csv_are_those_of_the_states(personal: Adapter, tmp_path: Path) -> None:
    """States saved by the groups 007 and 7 of a Parquet file answer a CSV file that asks for both."""
    draw = np.random.default_rng(3)
    rows = [{"who": who, "x": draw.normal(size=4).tolist(), "y": 1.0} for who in ("007", "7", "007", "7")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    paths = tmp_path / "rows.parquet", tmp_path / "rows.parquet", tmp_path / "out.parquet"
    answer_groups(personal, *paths, group="who", label="y", save_states=tmp_path / "states.parquet")
    lines = [json.dumps({"who": row["who"], "x": row["x"]}) for row in rows]
    (tmp_path / "asked.JSONL").write_text("\n".join(lines) + "\n")
    again = tmp_path / "again.jsonl"
    answer_states(personal, tmp_path / "states.parquet", tmp_path / "asked.JSONL", again, group="who")
    answered = [json.loads(line) for line in again.read_text().splitlines()]
    assert [row["who"] for row in answered] == ["007", "7", "007", "7"]
    expected = pq.read_table(paths[2])["predicted"].to_pylist()
    assert np.allclose([row["predicted"] for row in answered], expected, rtol=1e-6)
    pq.write_table(pa.table({"who": [{"a": 1}], "x": [[0.0] * 4], "y": [0.0]}), tmp_path / "struct.parquet")
    with pytest.raises(DataError, match=r"column 'who' is struct<.*; text or a number names a group"):
        answer_states(personal, tmp_path / "states.parquet", tmp_path / "struct.parquet", again, group="who")


def test_only_what_was_adapted_is_kept(omniglot: str, tmp_path: Path) -> None:
    settings = {"algorithm.adapt": ["head.*"], "tasks.ways": 3, "algorithm.inner_steps": 1}
    run = train_quickly(IMAGE_RUN, settings, tmp_path / "run")
    adapter = Adapter(build_bundle(run.run_dir, run.checkpoint("last"), num_tasks=3))
    image = np.zeros((28, 28), np.uint8).tobytes()
    rows = [{"who": "a", "image": image, "label": label} for label in "xyz"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    paths = tmp_path / "rows.parquet", tmp_path / "rows.parquet", tmp_path / "out.parquet"
    answer_groups(adapter, *paths, group="who", label="label", save_states=tmp_path / "states.parquet")
    names = pq.read_schema(tmp_path / "states.parquet").names
    assert [name for name in names if name.startswith("params.")] == ["params.head.weight", "params.head.bias"]
    assert all(not name.startswith("params.blocks") for name in names)


def test_what_does_not_fit_is_said(
    personal: Adapter, characters: dict[str, Adapter], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people(tmp_path, [(2, 1), (1, 2)])
    support, query, out = tmp_path / "support.parquet", tmp_path / "query.parquet", tmp_path / "out.parquet"
    with pytest.raises(DataError, match=r"has no column 'whom'; it has who, x, y"):
        answer_groups(personal, support, query, out, group="whom", label="y")
    classifier = characters["inductive"]
    image = np.zeros((28, 28), np.uint8).tobytes()
    rows = [{"who": who, "image": image, "label": label} for who in "ab" for label in "xyz"]
    pq.write_table(pa.Table.from_pylist(rows[:-1]), tmp_path / "few.parquet")
    with pytest.raises(DataError, match=r"group 'b': support_y has 2 distinct labels"):
        answer_groups(classifier, tmp_path / "few.parquet", tmp_path / "few.parquet", out, group="who", label="label")
    pq.write_table(pa.Table.from_pylist(rows[:3]), tmp_path / "one.parquet")
    with pytest.raises(DataError, match=r"1 groups of the queries have no support rows: 'b'"):
        answer_groups(classifier, tmp_path / "one.parquet", tmp_path / "few.parquet", out, group="who", label="label")
    states = tmp_path / "states.parquet"
    answer_groups(personal, support, query, out, group="who", label="y", save_states=states)
    with pytest.raises(DataError, match=r"holds states of model .*, this one is"):
        answer_states(classifier, states, query, out, group="who")
    people(tmp_path, [(2, 1), (1, 2), (1, 1)])
    with pytest.raises(DataError, match=r"has no state of 1 groups of .*: 'customer 2'"):
        answer_states(personal, states, query, out, group="who")
    folder = str(personal.bundle.folder)
    common = ["adapt", folder, "--query", str(query), "--out", str(out)]
    for wrong, message in (
        ([], "give --support FILE, or --states FILE"),
        (["--states", str(states)], "name their column with --group"),
        (["--states", str(states), "--group", "who", "--inner-steps", "2"], "--states are adapted already"),
    ):
        with pytest.raises(SystemExit):
            app([*common, *wrong])
        assert message in " ".join(capsys.readouterr().err.split())
    app([*common, "--support", str(support), "--group", "who", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["groups"] == 3
