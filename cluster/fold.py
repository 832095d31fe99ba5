"""Adding partial sums in item order, in float64, while they arrive in any order.

The order of the additions decides the last bits of a sum. It is the order of the items, so neither the
number of workers nor their speed can be seen in the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import ContractViolation
from cluster.group import Folded, Partial


class OrderedFold:
    """The running sums of one call. A partial is held only until all before it have come.

    Example:
        >>> fold = OrderedFold(version=0, num_items=2)
        >>> one = Partial(vector=np.ones(2, np.float32), metrics={"loss": (0.5, 1)}, count=1)
        >>> fold.add(0, 1, one), fold.waiting
        (None, 1)
        >>> fold.add(0, 0, one), fold.waiting
        (None, 0)
        >>> fold.result().vector, fold.result().metrics
        (array([2., 2.]), {'loss': (1.0, 2.0)})
    """

    def __init__(self, *, version: int, num_items: int) -> None:
        self._version = version
        self._num_items = num_items
        self._next = 0
        self._early: dict[int, Partial] = {}
        self._vector: NDArray[np.float64] | None = None
        self._metrics: dict[str, tuple[float, float]] = {}
        self._count = 0

    @property
    def waiting(self) -> int:
        """How many partials are held because one before them is missing."""
        return len(self._early)

    def add(self, version: int, index: int, partial: Any) -> None:
        """Takes the partial of one item.

        Raises:
            ContractViolation: of another version, a second time, out of range, or not a partial sum of the
                same length as the others.
        """
        where = f"version {version}, item {index}"
        if version != self._version:
            raise ContractViolation(f"{where}: the fold is of version {self._version}; the result is stale")
        if not 0 <= index < self._num_items:
            raise ContractViolation(f"{where}: the call has {self._num_items} items")
        if index < self._next or index in self._early:
            raise ContractViolation(f"{where}: its result came before; adding it again would count it twice")
        _check_partial(partial, where)
        self._early[index] = partial
        while (ready := self._early.pop(self._next, None)) is not None:
            self._fold(ready)
            self._next += 1

    def result(self) -> Folded:
        """The sums over all items.

        Raises:
            ContractViolation: an item is missing, or there are none.
        """
        if self._next < self._num_items:
            raise ContractViolation(
                f"version {self._version}: the result of item {self._next} of {self._num_items} is missing"
            )
        if self._vector is None:
            raise ContractViolation(f"version {self._version}: a sum over no items has no length")
        return Folded(vector=self._vector, metrics=dict(self._metrics), count=self._count)

    def _fold(self, partial: Partial) -> None:
        if self._vector is None:
            self._vector = np.zeros(partial.vector.shape, np.float64)
        if partial.vector.shape != self._vector.shape:
            raise ContractViolation(
                f"version {self._version}, item {self._next}: its vector has length {partial.vector.size}, "
                f"those before it have {self._vector.size}"
            )
        self._vector += partial.vector
        for name, (total, count) in partial.metrics.items():
            before_total, before_count = self._metrics.get(name, (0.0, 0.0))
            self._metrics[name] = (before_total + float(total), before_count + float(count))
        self._count += partial.count


def _check_partial(partial: Any, where: str) -> None:
    if not isinstance(partial, Partial):
        raise ContractViolation(f"{where}: reduce needs a Partial; the work function returned {type(partial)}")
    vector = partial.vector
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim != 1:
        found = f"{vector.dtype} {vector.shape}" if isinstance(vector, np.ndarray) else str(type(vector))
        raise ContractViolation(f"{where}: the vector of a Partial must be float32 of shape (P,); got {found}")
