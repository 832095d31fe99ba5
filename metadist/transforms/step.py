"""What a transform is, shipped or a user's own.

Legend: T tasks, N examples of one half of a task, R rows of the training split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metadist.errors import DataError
from metadist.parameters import aligned

Array = NDArray[Any]
State = Mapping[str, Array]
Values = Array | dict[str, Array]
Draws = Sequence[np.random.Generator]


class Step(NamedTuple):
    """A transform without state of its own: what it learned from data is handed to it.

    Attributes:
        apply: (values (T, N, *shape), state) -> values (T, N, *another shape), or a dict of such for models that take
            several inputs. An example's answer must not depend on the other examples. Numbers come as float32, text
            as an object array of strings.
        fit: values (R, *shape) of the training split, after the steps before -> state, a dict of arrays (numbers or
            text, never objects). None: nothing is fitted, and the state is empty.
        augment: (values (T, N, *shape), T generators) -> values of that shape. In training only, and before ``apply``.
        vocabulary: state -> number of different token ids, where the values are such.
        undo: (values (..., D), state as flat tensors) -> what they were before ``apply``. Of steps for targets alone.
    """

    apply: Callable[[Array, State], Values]
    fit: Callable[[Array], State] | None = None
    augment: Callable[[Array, Draws], Array] | None = None
    vocabulary: Callable[[State], int] | None = None
    undo: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None


def tensors_of(values: Values) -> Tensor | dict[str, Tensor]:
    """Transformed values as a model takes them, in aligned memory."""
    return {name: aligned(leaf) for name, leaf in values.items()} if isinstance(values, dict) else aligned(values)


def check_text(values: Array, name: str) -> None:
    """Refuse values that are not one string an example.

    Raises:
        DataError: says what they are.
    """
    if not is_text(values) or values.ndim > 2:
        raise DataError(f"transform {name} needs a column of text; it holds {values.dtype} of shape {values.shape}")


def is_text(values: Array) -> bool:
    """Whether values are strings."""
    return values.dtype.kind in "OU"
