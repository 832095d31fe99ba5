"""Whether two results of one item are the same, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

from cluster.group import Partial


def same(one: Any, other: Any) -> bool:
    """Bit equality of partial sums. Results of other types are not judged, since equality may mean anything there.

    Example:
        >>> import numpy as np
        >>> a = Partial(vector=np.ones(2, np.float32), metrics={"loss": (0.5, 1)}, count=1)
        >>> b = Partial(vector=np.ones(2, np.float32), metrics={"loss": (0.5, 1)}, count=1)
        >>> same(a, b), same(a, Partial(vector=np.zeros(2, np.float32), count=1))
        (True, False)
    """
    found = digest(one), digest(other)
    return None in found or found[0] == found[1]


def digest(result: Any) -> str | None:
    """Sixteen hex digits of the bits of partial sums; None for results of other types, as in `same`.

    Example:
        >>> import numpy as np
        >>> digest(Partial(vector=np.ones(2, np.float32), count=1))
        'ebf97ba4725652c7'
    """
    if not isinstance(result, Partial):
        return None
    told = hashlib.sha256(result.vector.tobytes())
    told.update(repr((sorted((name, *pair) for name, pair in result.metrics.items()), result.count)).encode())
    return told.hexdigest()[:16]
