"""Randomness as data: a generator is a pure function of the words that name it; nothing global is drawn from."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*words: int | str) -> np.random.Generator:
    """The generator named by ``words`` (for instance ``seed, "train", step, index``).

    Philox is counter-based: any 128-bit key is a good, independent stream, so a hash of the words is the key.

    >>> float(generator(0, "train", 3).random()) == float(generator(0, "train", 3).random())
    True
    >>> float(generator(0, "train", 3).random()) == float(generator(0, "train", 4).random())
    False
    """
    return np.random.Generator(np.random.Philox(key=key(*words)))


def key(*words: int | str) -> int:
    """128-bit key of ``words``; numbers and texts do not collide, nor do joined words."""
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def torch_seed(*words: int | str) -> int:
    """A 63-bit seed for ``torch.Generator`` and ``torch.manual_seed`` inside a forked state."""
    return key(*words) & (2**63 - 1)
