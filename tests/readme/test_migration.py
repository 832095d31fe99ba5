"""The code of docs/migration.md is run: each library's meta-gradient is ours."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.documents import document

BLOCKS = document("migration.md").blocks


def run(*names: str) -> dict[str, Any]:
    """The blocks one after the other, in one namespace."""
    space: dict[str, Any] = {}
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that are no longer kept up
            exec(compile(BLOCKS[name], f"migration.md:{name}", "exec"), space)
    return space


@pytest.mark.parametrize("library", ["higher", "torchopt"])
def test_both_columns_give_the_same_meta_gradient(library: str) -> None:
    space = run("ours", "module", library)
    ours = torch.cat([leaf.flatten() for leaf in space["direction"].model.values()])
    theirs: Tensor = torch.cat([leaf.flatten() for leaf in space[f"from_{library}"]])
    assert ours.norm() > 1e-3
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_every_block_is_run() -> None:
    assert set(BLOCKS) == {"ours", "module", "higher", "torchopt"}
