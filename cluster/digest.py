"""Whether two results of one item are the same, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from cluster.group import Partial


def same(one: Any, other: Any) -> bool:
    """Bit equality of partial sums. Results of other types are not judged, since equality may mean anything there.

    Example:
        >>> a = Partial(vector=np.ones(2, np.float32), metrics={"loss": (0.5, 1)}, count=1)
        >>> b = Partial(vector=np.ones(2, np.float32), metrics={"loss": (0.5, 1)}, count=1)
        >>> same(a, b), same(a, Partial(vector=np.zeros(2, np.float32), count=1))
        (True, False)
    """
    if not (isinstance(one, Partial) and isinstance(other, Partial)):
        return True
    if one.count != other.count or one.metrics.keys() != other.metrics.keys():
        return False
    pairs = [(one.vector, other.vector)] + [(np.array(v), np.array(other.metrics[k])) for k, v in one.metrics.items()]
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def digest(result: Any) -> str | None:
    """Sixteen hex digits of the bits of partial sums; None for results of other types, as in `same`.

    Example:
        >>> digest(Partial(vector=np.ones(2, np.float32), count=1))
        'ebf97ba4725652c7'
    """
    if not isinstance(result, Partial):
        return None
    told = hashlib.sha256(result.vector.tobytes())
    told.update(repr((sorted((name, *pair) for name, pair in result.metrics.items()), result.count)).encode())
    return told.hexdigest()[:16]
