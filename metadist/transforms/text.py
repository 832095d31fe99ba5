"""Text to token ids of a fixed length.

Ids: 0 padding, 1 whatever is not known, 2, 3, ... the tokens of the training split from the most frequent on (equally
frequent ones in alphabetical order); of bytes 2 + the byte.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from metadist.transforms.step import Array, State, Step, Values, check_text

PADDING, UNKNOWN, FIRST = 0, 1, 2
_WORD = re.compile(r"\w+|[^\w\s]")


def tokenize_step(*, unit: str, length: int, vocabulary: int, lower: bool) -> Step:
    """Text (T, N) to ``{"ids": (T, N, length) int64, "mask": (T, N, length) float32}``; the mask is zero at padding.

    Args:
        unit: ``words`` (and single marks), ``characters`` or ``bytes`` (UTF-8, nothing is fitted).
        length: Tokens of an example; the rest of a longer one is cut off.
        vocabulary: The most ids there may be, padding and the unknown one included.
        lower: Whether upper case is taken for lower.
    """

    def tokens(text: str) -> list[str]:
        text = text.lower() if lower else text
        return _WORD.findall(text) if unit == "words" else list(text)

    def fit(values: Array) -> State:
        check_text(values, "tokenize")
        counts = Counter(token for text in values.tolist() for token in tokens(text))
        ordered = sorted(counts, key=lambda token: (-counts[token], token))[: vocabulary - FIRST]
        # As code points: an array of text drops what looks like its own padding.
        return {
            "points": np.array([ord(letter) for token in ordered for letter in token], np.int64),
            "sizes": np.array([len(token) for token in ordered], np.int64),
        }

    def apply(values: Array, state: State) -> Values:
        check_text(values, "tokenize")
        if unit == "bytes":
            found = [[FIRST + byte for byte in text.encode()] for text in _texts(values, lower)]
        else:
            places = {token: FIRST + place for place, token in enumerate(known_tokens(state))}
            found = [[places.get(token, UNKNOWN) for token in tokens(text)] for text in _texts(values, False)]
        ids = np.full((len(found), length), PADDING, np.int64)
        for row, numbers in zip(ids, found, strict=True):
            row[: len(numbers)] = numbers[:length]
        ids = ids.reshape(*values.shape, length)
        return {"ids": ids, "mask": (ids != PADDING).astype(np.float32)}

    if unit == "bytes":
        return Step(apply, vocabulary=lambda state: FIRST + 256)
    return Step(apply, fit, vocabulary=lambda state: FIRST + len(state["sizes"]))


def known_tokens(state: State) -> list[str]:
    """The tokens of a fitted vocabulary, in the order of their ids."""
    letters = "".join(map(chr, state["points"].tolist()))
    ends = np.cumsum(state["sizes"]).tolist()
    return [letters[end - size : end] for end, size in zip(ends, state["sizes"].tolist(), strict=True)]


def _texts(values: Array, lower: bool) -> list[str]:
    texts: list[str] = values.reshape(-1).tolist()
    return [text.lower() for text in texts] if lower else texts
