"""What each transform does, by hand, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metadist.config import ModelConfig, Transform
from metadist.config.load import load_config
from metadist.errors import ConfigError, DataError, ModelError
from metadist.models import build_model
from metadist.tasks import TaskSpec
from metadist.transforms import Chain, fit_chain
from metadist.transforms.images import pixels, shifted
from metadist.transforms.text import known_tokens
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
    assert raw.vocabulary == 258 and raw.arrays() == {}
    assert raw(texts("Aé")[None])["ids"].tolist() == [[[2 + 97, 2 + 0xC3, 2 + 0xA9, 0]]]  # type: ignore[call-overload, index]


def test_shifted() -> None:
    image = np.arange(1, 13).reshape(3, 4)
    for down in range(-4, 5):
        for right in range(-5, 6):
            padded = np.zeros((13, 14), int)
            padded[5:8, 5:9] = image
            assert np.array_equal(shifted(image, down, right), padded[5 - down : 8 - down, 5 - right : 9 - right])


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([{"name": "pixel"}], "'pixel' is not known; did you mean 'pixels'"),
    ([{"name": "standardize", "options": {"ovr": "rows"}}], "ovr: there is no such key; did you mean 'over'"),
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


def test_standardize_counts_what_is_not_finite() -> None:
    """One error, and no warning of numpy's before it (warnings are errors here)."""
    values = np.array([[1.0], [np.inf], [-np.inf], [np.nan]], np.float32)
    with pytest.raises(DataError, match="3 of 4 values of the training split are not finite"):
        fit_chain([Transform(name="standardize")], lambda: values)


def test_text_without_a_transform_names_those_that_take_it() -> None:
    with pytest.raises(DataError, match=r"text is not numbers after tasks.transform \[\]; tokenize .* one_hot"):
        fit_chain([], lambda: np.zeros(0)).input_shape("string", ())


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_token_ids_need_a_model_that_takes_them(name: str) -> None:
    spec = TaskSpec(kind="classes", input_shape=(6,), outputs=3, shots=1, queries=1, vocabulary=9)
    if name == "gru":
        assert build_model(ModelConfig(name="gru"), spec, 0).vocabulary == 9
        return
    with pytest.raises(
        ModelError, match=r"token ids, 9 different ones, and model mlp takes numbers: use model.name gru"
    ):
        build_model(ModelConfig(name="mlp"), spec, 0)
