"""Randomness inside a task as data: numbers that follow from a key by a hash, the same under vmap and compiled.

Torch's generators have one global state and draw otherwise under ``vmap``, so they are not used in a task.
The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014), applied to key and position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
INVERSE = -1018231460777725123  # GOLDEN * INVERSE = 1 modulo 2**64
FIRST, SECOND = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
BITS = 24  # of a float32 mantissa


def fold_in(key: Tensor, word: int | Tensor) -> Tensor:
    """Another int64 scalar key for each ``word``."""
    return _mix(_mix(key + GOLDEN) ^ (_mix(torch.as_tensor(word, device=key.device) * GOLDEN + FIRST)))


def uniform(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Float32 numbers in [0, 1) of ``shape``, independent for each key.

    >>> bool((uniform(torch.tensor(7), (3,)) == uniform(torch.tensor(7), (3,))).all())
    True
    """
    places = torch.arange(math.prod(shape), device=key.device).reshape(tuple(shape))
    # base + places * GOLDEN, so ordered that the compiler does not take it for an index, which must not overflow.
    bits = _mix((places + _mix(key + GOLDEN) * INVERSE) * GOLDEN)
    return _shifted(bits, 64 - BITS).to(torch.float32) * 2.0**-BITS


def permutation(key: Tensor, size: int) -> Tensor:
    """0..size-1 in an order that follows from ``key``."""
    return torch.argsort(uniform(key, (size,)), stable=True)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shifted(word, 30)) * FIRST
    word = (word ^ _shifted(word, 27)) * SECOND
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, places: int) -> Tensor:
    """A shift to the right that fills with zeros; torch's keeps the sign."""
    return (word >> places) & ((1 << (64 - places)) - 1)
