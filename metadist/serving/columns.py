"""A model's columns: raw values in, transformed as in training, and outputs back in the units of the target.

Legend: T tasks, N support examples, M query examples, D outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metadist.models.functional import Inputs
from metadist.serving.bundle import TRANSFORMS, Bundle
from metadist.tasks import Batch
from metadist.transforms import Chain, read_chain
from metadist.transforms.chain import TARGET_KEY
from metadist.transforms.step import tensors_of
from metadist.transforms.targets import Targets, inputs_of, targets_of


class Columns:
    """The columns of a bundle, with what their transforms learned.

    Attributes:
        chain: The transforms of the inputs.
        targets: Those of the targets; None where these have none.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.chain, self.targets = _read_transforms(bundle)

    def tensor(self, raw: NDArray[Any]) -> Inputs:
        """Raw inputs (N, *stored shape), transformed as in training, in aligned memory."""
        found = self.tensors(raw[None])  # with a leading task axis, as in training
        return {name: leaf[0] for name, leaf in found.items()} if isinstance(found, dict) else found[0]

    def tensors(self, raw: NDArray[Any]) -> Inputs:
        """Raw inputs of T tasks (T, N, *stored shape), transformed as in training."""
        return tensors_of(self.chain(raw))

    def nothing(self) -> Batch:
        """A support set without examples: one row without weight, as in training and evaluation."""
        column, target = self._bundle.input, self._bundle.target
        text = column.dtype == "string"
        raw = np.full((1, *column.shape), "" if text else 0, object if text else np.float32)
        width = self._bundle.spec.outputs if target is not None else 1
        return Batch(self.tensor(raw), torch.zeros(1, width), torch.zeros(1))

    def scaled(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Targets (N, D) as stored to those that the model was trained on."""
        return y if self.targets is None else self.targets.scaled(y[None])[0]

    def in_units(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (M, D) of a regression as values (M, *target shape) in the units of the target column."""
        if self.targets is not None:
            return self.targets.values(outputs)
        assert self._bundle.target is not None
        return outputs.reshape(len(outputs), *self._bundle.target.shape)


def _read_transforms(bundle: Bundle) -> tuple[Chain, Targets | None]:
    """Those of the inputs, and those of the targets where these have any."""
    path, tasks, fitted = bundle.folder / TRANSFORMS, bundle.config.tasks, {}
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            fitted = dict(kept)
    inputs = read_chain(tasks.transform, inputs_of(fitted))
    if bundle.target is None or not tasks.target_transform:
        return inputs, None
    chain = read_chain(tasks.target_transform, targets_of(fitted), TARGET_KEY)
    return inputs, Targets.of(chain, bundle.target.shape)
