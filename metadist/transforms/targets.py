"""Targets in the units that a model is trained in, and back to those of the column.

Legend: T tasks, N examples, D numbers of a target, flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metadist.parameters import aligned
from metadist.transforms.chain import Chain
from metadist.transforms.step import Array

PREFIX = "target/"


@dataclass(frozen=True, slots=True)
class Targets:
    """The transforms of a target column.

    Attributes:
        chain: The steps, each of which can be undone.
        shape: Of one stored target.
        states: What each step learned, as flat tensors.
    """

    chain: Chain
    shape: tuple[int, ...]
    states: tuple[Mapping[str, Tensor], ...]

    @classmethod
    def of(cls, chain: Chain, shape: tuple[int, ...]) -> Self:
        """From a chain that was fitted."""
        states = ({name: aligned(array.reshape(-1)) for name, array in state.items()} for state in chain.states)
        return cls(chain, shape, tuple(states))

    def scaled(self, values: Array) -> NDArray[np.float32]:
        """Targets (T, N, D) as stored to those that a model is trained on.

        Raises:
            DataError: a value that a transform does not take.
        """
        found = self.chain(values.reshape(*values.shape[:2], *self.shape))
        assert isinstance(found, np.ndarray)
        return found.reshape(values.shape)

    def undone(self, outputs: Tensor) -> Tensor:
        """Outputs (..., D) in the units of the column."""
        for step, state in zip(reversed(self.chain.steps), reversed(self.states), strict=True):
            assert step.undo is not None
            outputs = step.undo(outputs, {name: leaf.to(outputs.device) for name, leaf in state.items()})
        return outputs

    def values(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (M, D) in the units of the column, each in the column's shape: (M, *shape)."""
        found: NDArray[np.float32] = self.undone(aligned(outputs)).numpy()
        return found.reshape(len(outputs), *self.shape)


def fitted_arrays(inputs: Chain, targets: Targets | None) -> dict[str, Array]:
    """What both learned, as named arrays for a file; `inputs_of` and `targets_of` take them apart."""
    of_targets = {} if targets is None else targets.chain.arrays()
    return {**inputs.arrays(), **{PREFIX + name: array for name, array in of_targets.items()}}


def inputs_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The part of the inputs."""
    return {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}


def targets_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The part of the targets."""
    return {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
