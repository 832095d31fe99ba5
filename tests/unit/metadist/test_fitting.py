"""Transforms of a store's columns: fitted on the training split alone, once, and the same for every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metadist
from metadist.config import TasksConfig, Transform
from metadist.config.load import load_config
from metadist.errors import ConfigError, DataError
from metadist.sources import ParquetSource, build_source, fitted_digest
from metadist.transforms import read_chain
from metadist.transforms.chain import digest_of
from metadist.transforms.images import shifted
from tasks_store import Column, default_cache_dir, write_store
from tests.support.quick import IMAGE_RUN


def store_of(place: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row) -> str:
    """Six classes of eight rows; ``change`` is applied to each row."""
    draw, rows = np.random.default_rng(0), []
    for number in range(6):
        split = ("train", "validation", "test")[number // 2]
        for place_in in range(8):
            row = {
                "group": f"{split}-{number}",
                "split": split,
                "x": draw.normal(number, 2, 3).astype(np.float32),
                "image": draw.integers(1, 256, (5, 5)).astype(np.uint8),
                "text": f"word{number} and {'more ' * (place_in % 3)}",
                "kind": int(draw.integers(0, 4)),
            }
            rows.append(change(row))
    columns = [
        Column(name="x", dtype="float32", shape=(3,)),
        Column(name="image", dtype="uint8", shape=(5, 5)),
        Column(name="text", dtype="string"),
        Column(name="kind", dtype="int64"),
    ]
    write_store(rows, place, name="toy", kind="classes", columns=columns)
    return str(place)


def source_of(location: str, value: str, *parts: dict[str, Any]) -> ParquetSource:
    tasks = {"path": location, "ways": 2, "shots": 2, "queries": 3, "value": value, "transform": list(parts)}
    config = TasksConfig.model_validate(tasks)
    return ParquetSource(config, location, run_seed=0, evaluation_seed=0, shots=2, queries=3)


FITTED: list[tuple[str, dict[str, Any]]] = [
    ("x", {"name": "standardize"}),
    ("text", {"name": "tokenize", "options": {"length": 4}}),
    ("kind", {"name": "one_hot"}),
    ("x", {"name": "tests.unit.metadist.test_fitting:scaled", "options": {"by": 2.0}}),
]


def scaled(by: float) -> Any:
    """A transform of a user's own: divided by the largest value of the training split."""
    from metadist.transforms import Step

    return Step(
        lambda values, state: by * values / state["largest"], lambda values: {"largest": values.max(keepdims=True)}
    )


@pytest.mark.parametrize(("value", "part"), FITTED)
def test_fitting_never_sees_validation_or_test(value: str, part: dict[str, Any], tmp_path: Path) -> None:
    def other(row: dict[str, Any]) -> dict[str, Any]:
        if row["split"] == "train":
            return row
        return {**row, "x": row["x"] + 100, "text": "elsewhere", "kind": 77}

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "x": row["x"] + 1, "text": f"once {row['text']}", "kind": row["kind"] + 1}

    one, same, changed = (
        source_of(store_of(tmp_path / name, change), value, part)
        for name, change in (("one", lambda row: row), ("same", other), ("changed", moved))
    )
    assert one.fingerprint != same.fingerprint
    assert fitted_digest(one) == fitted_digest(same) != fitted_digest(changed)
    assert fitted_digest(one) == digest_of(one.chain.arrays()) != ""


def test_what_was_fitted_is_kept_and_damage_is_told(tmp_path: Path) -> None:
    location = store_of(tmp_path / "store", lambda row: {**row, "x": row["x"] + 3})
    before = set(default_cache_dir().glob("fitted-*.npz"))
    first = source_of(location, "x", {"name": "standardize"}).chain
    (path,) = set(default_cache_dir().glob("fitted-*.npz")) - before
    assert fitted_digest(source_of(location, "x", {"name": "standardize"})) == digest_of(first.arrays())
    given = build_source(
        load_config(IMAGE_RUN, {"tasks": source_of(location, "x", {"name": "standardize"}).config.model_dump()}),
        location,
        first.arrays(),
    )
    path.write_bytes(b"nonsense")
    assert fitted_digest(given) == digest_of(first.arrays()), "what is handed over is not looked up"
    with pytest.raises(DataError, match=r"fitted-.* is damaged .*delete it"):
        assert source_of(location, "x", {"name": "standardize"}).chain
    path.unlink()
    part = Transform(name="standardize")
    read = read_chain((part,), first.arrays(), "tasks.target_transform")  # type: ignore[union-attr]
    assert read(np.ones((1, 1, 3))).shape == (1, 1, 3) and read.key == "tasks.target_transform"


def test_augmented_tasks_follow_from_their_index_and_only_training_is(tmp_path: Path) -> None:
    location = store_of(tmp_path / "store")
    moved = source_of(location, "image", {"name": "augment", "options": {"flip": True, "shift": 1}}, {"name": "pixels"})
    plain = source_of(location, "image", {"name": "pixels"})
    assert moved.spec == plain.spec
    whole = moved.batch("train", 3, 0, 6)
    for start, stop in ((0, 2), (2, 5), (5, 6)):
        part = moved.batch("train", 3, start, stop)
        assert torch.equal(part.support.x, whole.support.x[start:stop])  # type: ignore[union-attr, arg-type, index]
        assert torch.equal(part.query.x, whole.query.x[start:stop])  # type: ignore[union-attr, arg-type, index]
    still = plain.batch("train", 3, 0, 6)
    assert torch.equal(whole.support.y, still.support.y)  # type: ignore[union-attr]
    seen = set()
    pairs = zip(whole.query.x.flatten(0, 2).numpy(), still.query.x.flatten(0, 2).numpy(), strict=True)  # type: ignore[union-attr]
    for found, image in pairs:
        ways = [(f, a, b) for f in (0, 1) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        fits = [way for way in ways if np.array_equal(shifted(image[:, ::-1] if way[0] else image, *way[1:]), found)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 8, "images of a task move apart"
    for split, task in (("validation", moved.batch("validation", 0, 0, 3)), ("train", moved.fixed("train", 0, 3))):
        same = plain.batch("validation", 0, 0, 3) if split == "validation" else plain.fixed("train", 0, 3)
        assert torch.equal(task.support.x, same.support.x)  # type: ignore[union-attr, arg-type]


def centred() -> Any:
    from metadist.transforms import Step

    return Step(lambda values, state: values - values.mean(1, keepdims=True))


def test_an_example_that_depends_on_its_company_is_refused_before_step_0(tmp_path: Path) -> None:
    part = {"name": "tests.unit.metadist.test_fitting:centred"}
    tasks = source_of(store_of(tmp_path / "store"), "x", part).config.model_copy(update={"ways": 2})
    recipe = {**IMAGE_RUN, "tasks": tasks.model_dump(), "model": {"name": "mlp"}}
    with pytest.raises(ConfigError, match="test_fitting:centred': an example alone becomes something else"):
        metadist.train(recipe, run_dir=tmp_path / "run")


def test_padded_text_counts_nowhere(tmp_path: Path) -> None:
    rows = [
        {"group": f"g{number}", "split": "train", "text": f"line {place} of {number}", "y": float(place)}
        for number in range(3)
        for place in range(9)
    ]
    columns = [Column(name="text", dtype="string"), Column(name="y", dtype="float32")]
    write_store(rows, tmp_path / "lines", name="lines", kind="groups", columns=columns)
    tasks = {"path": str(tmp_path / "lines"), "kind": "groups", "target": "y", "support": [0, 4], "queries": 3}
    config = TasksConfig.model_validate({**tasks, "transform": [{"name": "tokenize", "options": {"length": 5}}]})
    source = ParquetSource(config, str(config.path), run_seed=0, evaluation_seed=0, shots=4, queries=3)
    support = source.batch("train", 0, 0, 20).support
    assert support is not None and isinstance(support.x, dict) and support.weight is not None
    assert source.spec.vocabulary == source.chain.vocabulary and source.spec.input_shape == (5,)
    for leaf in support.x.values():
        assert leaf.shape == (20, 4, 5) and torch.equal(leaf.any(-1), support.weight > 0)
