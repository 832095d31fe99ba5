"""Text to the token ids of a pretrained encoder, by the ``tokenizer.json`` that lies beside its weights.

The file's content is the transform's state: it is read once, by the driver, and travels with the bundle.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from metadist.encoder_folder import encoder_folder
from metadist.errors import ConfigError, DataError
from metadist.transforms.step import Array, State, Step, Values, check_text

FILE = "tokenizer.json"
PADDINGS = ("[PAD]", "<pad>", "<|padding|>")


def pretrained_step(*, path: str, length: int) -> Step:
    """Text (T, N) to ``{"ids": (T, N, length) int64, "mask": (T, N, length) float32}``, special tokens included.

    Args:
        path: Folder with ``tokenizer.json``; read when the transform is fitted, never later.
        length: Tokens of an example; the rest of a longer one is cut off.
    """

    def fit(values: Array) -> State:
        check_text(values, "tokenize")
        content = tokenizer_file(path).read_bytes()
        _tokenizer(content, length)  # says now what is wrong
        return {"file": np.frombuffer(content, np.uint8)}

    def apply(values: Array, state: State) -> Values:
        check_text(values, "tokenize")
        tokenizer = _tokenizer(state["file"].tobytes(), length)
        found = [tokenizer.encode(text) for text in values.reshape(-1).tolist()]
        shape = (*values.shape, length)
        ids = np.array([one.ids for one in found], np.int64).reshape(shape)
        return {"ids": ids, "mask": np.array([one.attention_mask for one in found], np.float32).reshape(shape)}

    def vocabulary(state: State) -> int:
        return int(_tokenizer(state["file"].tobytes(), length).get_vocab_size())

    return Step(apply, fit, vocabulary=vocabulary)


def tokenizer_file(path: str) -> Path:
    """The file in a folder.

    Raises:
        DataError: there is none.
    """
    folder = encoder_folder(path)
    file = folder / FILE
    if not file.is_file():
        raise DataError(f"transform tokenize: {folder.absolute()} has no {FILE}; name the encoder's folder")
    return file


@lru_cache(maxsize=4)
def _tokenizer(content: bytes, length: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConfigError("transform tokenize with unit pretrained needs: pip install 'metadist[text]'") from error
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare exceptions
        raise DataError(f"transform tokenize: {FILE} cannot be read: {error}") from error
    tokenizer.enable_truncation(length)
    name = next((name for name in PADDINGS if tokenizer.token_to_id(name) is not None), None)
    padding = {} if name is None else {"pad_id": tokenizer.token_to_id(name), "pad_token": name}
    tokenizer.enable_padding(length=length, **padding)
    return tokenizer
