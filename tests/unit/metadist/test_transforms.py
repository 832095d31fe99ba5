"""Transforms: what each does, that they are fitted on the training split alone, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metadist
from metadist.config import TasksConfig, Transform
from metadist.errors import ConfigError, DataError
from metadist.settings import load_config
from metadist.sources import ParquetSource, build_source, fitted_digest
from metadist.transforms import Chain, fit_chain, read_chain
from metadist.transforms.chain import digest_of
from metadist.transforms.images import pixels, shifted
from metadist.transforms.text import known_tokens
from tasks_store import Column, default_cache_dir, write_store
from tests.support.quick import IMAGE_RUN


def chain_of(*parts: dict[str, Any], rows: Any = None) -> Chain:
    transforms = tuple(Transform(**part) for part in parts)
    return fit_chain(transforms, lambda: np.asarray(rows))


def texts(*lines: str) -> Any:
    found = np.empty(len(lines), object)
    found[:] = lines
    return found


def test_pixels() -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    assert pixels(grey).shape == (2, 3, 1, 2, 2)
    assert np.array_equal(pixels(grey)[:, :, 0], grey.astype(np.float32) / np.float32(255))
    colour = np.zeros((2, 3, 4, 5, 3), np.uint8)
    colour[..., 1] = 255
    assert pixels(colour).shape == (2, 3, 3, 4, 5)
    assert pixels(colour)[:, :, 1].min() == 1 and pixels(colour)[:, :, 0].max() == 0
    chain = chain_of({"name": "pixels"})
    assert chain.input_shape("uint8", (28, 28)) == (1, 28, 28)
    assert chain.input_shape("uint8", (84, 84, 3)) == (3, 84, 84)
    assert chain_of().input_shape("float32", (7,)) == (7,)
    for size in (1, 3, 4):  # a narrow grey image is not a row of colours
        assert chain.input_shape("uint8", (5, size)) == (1, 5, size)
    assert chain.input_shape("uint8", (5, 6, 2)) == (2, 5, 6)
    with pytest.raises(DataError, match="needs images"):
        chain.input_shape("uint8", (7,))


def test_texts_are_no_numbers() -> None:
    with pytest.raises(DataError, match="not numbers"):
        chain_of()(np.array([["a"]]))


@pytest.mark.parametrize("over", ["rows", "everything"])
def test_standardize(over: str) -> None:
    rows = np.random.default_rng(0).normal([1, 5, 7], [2, 3, 0], (500, 3))
    chain = chain_of({"name": "standardize", "options": {"over": over}}, rows=rows)
    found = chain(rows[None])[0]  # type: ignore[index]
    axis = 0 if over == "rows" else None
    exact = rows.astype(np.float32).astype(np.float64)
    spread = exact.std(axis)
    expected = (exact - exact.mean(axis)) / np.where(spread > 0, spread, 1)
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-4)
    if over == "rows":
        assert not found[:, 2].any(), "nothing varies there"
    rows[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 1500 values of the training split are not finite"):
        chain_of({"name": "standardize"}, rows=rows)


def test_one_hot() -> None:
    chain = chain_of({"name": "one_hot"}, rows=np.array([7, 3, 7, 9]))
    assert chain.input_shape("int64", ()) == (3,)
    assert chain(np.array([[3, 9, 4]])).tolist() == [[[1, 0, 0], [0, 0, 1], [0, 0, 0]]]  # type: ignore[union-attr]
    words = chain_of({"name": "one_hot"}, rows=texts("b", "a"))
    assert words(texts("a", "c", "b")[None]).tolist() == [[[1, 0], [0, 0], [0, 1]]]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="3 different values, more than the limit 2"):
        chain_of({"name": "one_hot", "options": {"limit": 2}}, rows=np.array([7, 3, 9]))
    with pytest.raises(DataError, match="is given"):
        words(np.zeros((1, 1)))


def test_tokenize_words() -> None:
    options = {"unit": "words", "length": 5, "vocabulary": 6}
    chain = chain_of({"name": "tokenize", "options": options}, rows=texts("The card, the card?", "My card"))
    assert known_tokens(chain.states[0]) == ["card", "the", ",", "?"], "frequent first, then alphabetical; my is cut"
    assert chain.vocabulary == 6 and chain.input_shape("string", ()) == (5,)
    found: Any = chain(texts("THE new card", "", "the the the the the card")[None])
    assert found["ids"].tolist() == [[[3, 1, 2, 0, 0], [0] * 5, [3] * 5]]
    assert found["mask"].tolist() == [[[1, 1, 1, 0, 0], [0] * 5, [1] * 5]]
    assert found["ids"].dtype == np.int64 and found["mask"].dtype == np.float32
    upper = chain_of({"name": "tokenize", "options": {**options, "lower": False}}, rows=texts("A a a"))
    assert known_tokens(upper.states[0]) == ["a", "A"]


def test_tokenize_characters_and_bytes() -> None:
    letters = chain_of({"name": "tokenize", "options": {"unit": "characters", "length": 4}}, rows=texts("aéa\x00"))
    assert known_tokens(letters.states[0]) == ["a", "\x00", "é"] and letters.vocabulary == 5
    assert letters(texts("éa")[None])["ids"].tolist() == [[[4, 2, 0, 0]]]  # type: ignore[call-overload, index]
    raw = chain_of({"name": "tokenize", "options": {"unit": "bytes", "length": 4}})
    assert raw.vocabulary == 258 and raw.digest == ""
    assert raw(texts("Aé")[None])["ids"].tolist() == [[[2 + 97, 2 + 0xC3, 2 + 0xA9, 0]]]  # type: ignore[call-overload, index]


def test_shifted() -> None:
    image = np.arange(1, 13).reshape(3, 4)
    for down in range(-4, 5):
        for right in range(-5, 6):
            padded = np.zeros((13, 14), int)
            padded[5:8, 5:9] = image
            assert np.array_equal(shifted(image, down, right), padded[5 - down : 8 - down, 5 - right : 9 - right])


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
    ("x", {"name": "tests.unit.metadist.test_transforms:scaled", "options": {"by": 2.0}}),
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
    assert one.chain.digest == digest_of(one.chain.arrays()) != ""


def test_what_was_fitted_is_kept_and_damage_is_told(tmp_path: Path) -> None:
    location = store_of(tmp_path / "store", lambda row: {**row, "x": row["x"] + 3})
    before = set(default_cache_dir().glob("fitted-*.npz"))
    first = source_of(location, "x", {"name": "standardize"}).chain
    (path,) = set(default_cache_dir().glob("fitted-*.npz")) - before
    assert source_of(location, "x", {"name": "standardize"}).chain.digest == first.digest
    given = build_source(
        load_config(IMAGE_RUN, {"tasks": source_of(location, "x", {"name": "standardize"}).config.model_dump()}),
        location,
        first.arrays(),
    )
    path.write_bytes(b"nonsense")
    assert fitted_digest(given) == first.digest, "what is handed over is not looked up"
    with pytest.raises(DataError, match=r"fitted-.* is damaged .*delete it"):
        assert source_of(location, "x", {"name": "standardize"}).chain
    path.unlink()
    part = Transform(name="standardize")
    assert read_chain((part,), first.arrays())(np.ones((1, 1, 3))).shape == (1, 1, 3)  # type: ignore[union-attr]


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


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([{"name": "pixel"}], "'pixel' is not known; did you mean 'pixels'"),
    ([{"name": "standardize", "options": {"ovr": "rows"}}], "no option 'ovr'; did you mean 'over'"),
    ([{"name": "tokenize", "options": {"unit": "bytes", "vocabulary": 9}}], "of which there are 258"),
    ([{"name": "augment"}], "neither flip nor shift"),
    ([{"name": "pixels"}, {"name": "augment", "options": {"shift": 1}}], "put it before pixels"),
    ([{"name": "tokenize"}, {"name": "pixels"}], "put it last"),
]


@pytest.mark.parametrize(("parts", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_what_does_not_fit_is_refused(parts: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(IMAGE_RUN, {"tasks.transform": parts})


def test_a_transform_without_options_is_written_as_ever() -> None:
    assert load_config(IMAGE_RUN).model_dump(mode="json")["tasks"]["transform"] == [{"name": "pixels"}]


def centred() -> Any:
    from metadist.transforms import Step

    return Step(lambda values, state: values - values.mean(1, keepdims=True))


def test_an_example_that_depends_on_its_company_is_refused_before_step_0(tmp_path: Path) -> None:
    part = {"name": "tests.unit.metadist.test_transforms:centred"}
    tasks = source_of(store_of(tmp_path / "store"), "x", part).config.model_copy(update={"ways": 2})
    recipe = {**IMAGE_RUN, "tasks": tasks.model_dump(), "model": {"name": "mlp"}}
    with pytest.raises(ConfigError, match="test_transforms:centred': an example alone becomes something else"):
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


def broken(how: str) -> Any:
    from metadist.transforms import Step

    def short(values: Any, state: Any) -> Any:
        return values[:, :1]

    def fails(values: Any, state: Any) -> Any:
        raise KeyError("what")

    ways: dict[str, Any] = {
        "no step": 7,
        "short": Step(short),
        "fails": Step(fails),
        "objects": Step(lambda values, state: values, lambda values: {"known": np.array([{}, {}])}),
    }
    return ways[how]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no step", "returned int; it must return metadist.transforms.Step"),
        ("short", r"it must keep these two axes"),
        ("fails", "apply failed: KeyError: 'what'"),
        ("objects", "never of objects"),
    ],
)
def test_what_is_wrong_with_ones_own_is_said(how: str, words: str) -> None:
    name = "tests.unit.metadist.test_transforms:broken"
    with pytest.raises(ConfigError, match=words):
        chain_of({"name": name, "options": {"how": how}}, rows=np.zeros((4, 3)))(np.zeros((2, 3, 4)))
