"""Meta-parameters: named trees inside, one flat float32 vector on the wire and on disk.

Legend: P = number of meta-learned values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Params = dict[str, Tensor]


class MetaParams(NamedTuple):
    """What the outer loop learns.

    Attributes:
        model: Initial weights, by the model's own parameter names (meta-learned leaves only, never frozen ones).
        inner: Learned quantities of the inner loop, such as learned rates; empty where nothing is learned.
    """

    model: Params
    inner: Params


@dataclass(frozen=True, slots=True)
class Layout:
    """Names, shapes and order of the leaves of a `MetaParams` in the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    @property
    def size(self) -> int:
        """P: the number of values in the flat vector."""
        return sum(self.sizes)

    @property
    def digest(self) -> str:
        """Hash of names and shapes; two vectors are comparable only under the same layout."""
        return hashlib.sha256(repr((self.names, self.shapes)).encode()).hexdigest()

    def difference(self, other: Layout) -> list[str]:
        """What the leaves differ in, one line a leaf: ``model.head.weight (20, 64), there (5, 64)``."""
        here, there = (dict(zip(layout.names, layout.shapes, strict=True)) for layout in (self, other))
        names = [name for name in here | there if here.get(name) != there.get(name)]
        return [f"{name} {here.get(name, 'none')}, there {there.get(name, 'none')}" for name in names]


def named_leaves(meta: MetaParams) -> dict[str, Tensor]:
    """Leaves by full name: ``model.<name>``, then ``inner.<name>``, in layout order."""
    return {
        **{f"model.{name}": leaf for name, leaf in meta.model.items()},
        **{f"inner.{name}": leaf for name, leaf in meta.inner.items()},
    }


def leaves(meta: MetaParams) -> list[Tensor]:
    """The leaves in layout order, for an outer optimizer of your own."""
    return list(named_leaves(meta).values())


def layout_of(meta: MetaParams) -> Layout:
    """The layout of ``meta``."""
    named = named_leaves(meta)
    return Layout(tuple(named), tuple(tuple(leaf.shape) for leaf in named.values()))


def aligned(array: NDArray[np.generic] | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy in torch's own 64-byte aligned memory.

    Kernels choose their code path by alignment, so a view of numpy, Arrow or safetensors memory can give
    other bits than the same values in an aligned buffer.
    """
    source = array if isinstance(array, Tensor) else _view(array)
    return torch.empty(source.shape, dtype=dtype or source.dtype).copy_(source)


def _view(array: NDArray[np.generic]) -> Tensor:
    if array.flags.writeable and all(stride >= 0 for stride in array.strides):
        return torch.from_numpy(array)
    return torch.from_numpy(np.array(array))  # read-only or flipped memory: torch cannot borrow it


def flatten(meta: MetaParams) -> NDArray[np.float32]:
    """The flat vector (P,) of ``meta`` in layout order."""
    flat = torch.cat([leaf.detach().to("cpu", torch.float32).reshape(-1) for leaf in leaves(meta)])
    return np.asarray(flat.numpy())


def unflatten(flat: NDArray[np.float32], layout: Layout, device: str = "cpu") -> MetaParams:
    """The tree of aligned tensors for a flat vector (P,).

    Raises:
        ValueError: the vector's length is not the layout's.
    """
    if flat.shape != (layout.size,):
        raise ValueError(f"a flat vector of shape {flat.shape} does not fit a layout of {layout.size} values")
    model: Params = {}
    inner: Params = {}
    ends = np.cumsum(layout.sizes)
    for name, shape, size, end in zip(layout.names, layout.shapes, layout.sizes, ends, strict=True):
        kind, _, short = name.partition(".")
        leaf = aligned(flat[end - size : end]).reshape(shape).to(device)
        (model if kind == "model" else inner)[short] = leaf
    return MetaParams(model, inner)


def sha256(flat: NDArray[np.float32]) -> str:
    """``params_sha256``: SHA-256 of the little-endian float32 values in layout order."""
    return hashlib.sha256(np.ascontiguousarray(flat, dtype="<f4").tobytes()).hexdigest()


def params_sha256(meta: MetaParams) -> str:
    """``params_sha256`` of a tree; equal to the figure that ``metadist train`` prints for the same values."""
    return sha256(flatten(meta))


def tree_digest(params: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of any named tensors (used for frozen leaves)."""
    digest = hashlib.sha256()
    for name in sorted(params):
        leaf = params[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(leaf.shape)}:{leaf.dtype};".encode())
        digest.update(leaf.reshape(-1).view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
    return digest.hexdigest()


def matching(patterns: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Names that match any of the shell-style ``patterns``, in the order of ``names``.

    A pattern that begins with ``!`` takes names out; such patterns alone take them out of all.

    >>> matching(["head.*"], ["body.weight", "head.weight", "head.bias"])
    ('head.weight', 'head.bias')
    >>> matching(["!head.*"], ["body.weight", "head.weight", "head.bias"])
    ('body.weight',)
    """
    out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    into = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"] * bool(out)

    def hit(name: str, among: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in among)

    return tuple(name for name in names if hit(name, into) and not hit(name, out))
