"""From outlines to pixels, in numpy alone: the same bits whatever font or image library is installed.

A polygon set is one array of edges [E, 4] (x0, y0, x1, y1), y downwards, filled by the non-zero
winding rule as TrueType asks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]


def fill(edges: Floats, size: int) -> Bits:
    """Which of size x size pixels have their centre inside, [size, size]."""
    x0, y0, x1, y1 = edges.T
    centres = np.arange(size)[:, None] + 0.5
    line, edge = np.nonzero((y0 <= centres) != (y1 <= centres))
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    crossing = x0[edge] + (line + 0.5 - y0[edge]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, size).astype(np.int64)
    sign = np.where(y1[edge] > y0[edge], 1.0, -1.0)
    change = np.bincount(line * (size + 1) + column, weights=sign, minlength=size * (size + 1))
    winding = np.cumsum(change.reshape(size, size + 1), axis=1)[:, :size]
    return np.asarray(winding != 0)


def shrink(bits: Bits, factor: int) -> Floats:
    """Mean of factor x factor blocks, in [0, 1]."""
    size = len(bits) // factor
    return np.asarray(bits.reshape(size, factor, size, factor).mean(axis=(1, 3)))


def thicken(bits: Bits, radius: int) -> Bits:
    """Ink grown by a disk of this radius; a negative radius shrinks it."""
    if radius < 0:
        return ~thicken(~bits, -radius)
    grown = bits.copy()
    for dy in range(-radius, radius + 1):
        reach = int((radius * radius - dy * dy) ** 0.5)
        row = _shifted(bits, dy)
        for dx in range(-reach, reach + 1):
            if dx > 0:
                grown[:, dx:] |= row[:, :-dx]
            elif dx < 0:
                grown[:, :dx] |= row[:, -dx:]
            else:
                grown |= row
    return grown


def _shifted(bits: Bits, dy: int) -> Bits:
    moved = np.zeros_like(bits)
    if dy > 0:
        moved[dy:] = bits[:-dy]
    elif dy < 0:
        moved[:dy] = bits[-dy:]
    else:
        moved[:] = bits
    return moved
