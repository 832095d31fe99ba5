"""Dropout whose noise is data: what is dropped follows from a key that comes with each call."""

from __future__ import annotations

from torch import Tensor, nn

from metadist.errors import ModelError
from metadist.noise import fold_in, uniform


class Dropout(nn.Module):
    """Sets values to zero with probability ``p`` and scales the others by 1 / (1 - p), by the int64 buffer ``key``.

    Without a key nothing is dropped. A layer that is called more than once in a pass draws anew each time.

    ``nn.Dropout`` draws from torch's global generator, which would make a task's gradient depend on what was
    computed before it.
    """

    key: Tensor | None

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ModelError(f"dropout p is {p}; it must lie in 0..1, below 1")
        self.p = p
        self.register_buffer("key", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if self.key is None or self.p == 0:
            return x
        kept = uniform(self.key, x.shape) >= self.p
        self.key = fold_in(self.key, 0)
        return x * (kept.to(x.dtype) / (1 - self.p))


def dropouts(module: nn.Module) -> dict[str, Dropout]:
    """The `Dropout` layers of ``module`` that drop, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, Dropout) and layer.p > 0}
