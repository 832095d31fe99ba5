"""Law 13, numerics: what has been seen to change bits does not. And the wire: what travels, how many bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import metadist
from cluster import Partial
from metadist.config import RunConfig
from metadist.parameters import flatten
from metadist.sources import build_source
from metadist.stores import locate
from metadist.tasks import plan_step
from metadist.worker import assemble, factory_of
from tests.support.quick import IMAGE_RUN, SMALL_RUN

ROOT = Path(__file__).parents[2]
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": (SMALL_RUN, {"model.options": {"hidden": [40, 40]}, "outer.meta_batch_size": 25, "outer.shard_size": 25}),
    "conv4": (IMAGE_RUN, {"model.options": {"filters": 8}}),
}


def digest_of_a_shard(config: RunConfig, folder: Path, offset: int = 0) -> str:
    """SHA-256 of the first shard's gradient at the initial parameters, which lie ``offset`` bytes off alignment."""
    location = locate(config, lambda message: None)
    parts = assemble(config, build_source(config, location))
    flat = shifted(flatten(parts.algorithm.init(config.seed)), offset)
    work = factory_of(parts, location, "cpu", folder)()
    settings = config.outer
    shard = plan_step(0, meta_batch_size=settings.meta_batch_size, shard_size=settings.shard_size or 1)[0]
    partial: Partial = work(0, flat, shard)
    return hashlib.sha256(partial.vector.tobytes()).hexdigest()


def shifted(values: NDArray[np.float32], offset: int) -> NDArray[np.float32]:
    """The same values at an address that is ``offset`` bytes above a multiple of 64."""
    room = np.zeros(values.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    view = room[start : start + values.nbytes].view(np.float32)
    view[:] = values
    assert view.ctypes.data % 64 == offset
    return view


def config_of(name: str, **overrides: Any) -> RunConfig:
    recipe, settings = RUNS[name]
    return metadist.load_config(recipe, {**settings, **overrides})


@pytest.mark.parametrize("name", RUNS)
def test_alignment_does_not_change_a_bit(name: str, omniglot: str, tmp_path: Path) -> None:
    digests = [digest_of_a_shard(config_of(name), tmp_path, offset) for offset in (0, 4, 8, 12)]
    assert len(set(digests)) == 1


@pytest.mark.parametrize("name", RUNS)
def test_a_thread_that_is_not_the_main_one_does_not_change_a_bit(name: str, omniglot: str, tmp_path: Path) -> None:
    config = config_of(name)
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(digest_of_a_shard, config, tmp_path).result()
    assert elsewhere == digest_of_a_shard(config, tmp_path)


@pytest.mark.parametrize("name", RUNS)
def test_shapes_seen_before_do_not_change_a_bit(name: str, omniglot: str, tmp_path: Path) -> None:
    """This process has computed whatever the tests before left; the other one ten other shapes, then this one."""
    program = f"""
import metadist
from pathlib import Path
from tests.laws.test_numerics import config_of, digest_of_a_shard
for shots in range(2, 12):
    other = config_of({name!r}, **{{"tasks.shots": shots, "tasks.queries": shots % 3 + 1}})
    digest_of_a_shard(other, Path({str(tmp_path)!r}))
print(digest_of_a_shard(config_of({name!r}), Path({str(tmp_path)!r})))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == digest_of_a_shard(config_of(name), tmp_path)


def test_a_read_only_or_strided_vector_is_copied() -> None:
    from metadist.parameters import aligned

    values = np.arange(12, dtype=np.float32)
    values.flags.writeable = False
    for source in (values, values[::2], values[::-1]):
        copy = aligned(source)
        assert copy.data_ptr() % 64 == 0
        assert np.array_equal(copy.numpy(), source)
        copy += 1
    assert values.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"model": {"name": "mlp", "options": {"hidden": [8]}}}, set()),
        (
            {"model": {"name": "mlp", "options": {"hidden": [8]}, "freeze": ["body.*"]}},
            {"body.0.weight", "body.0.bias"},
        ),
        ({"model": {"factory": "tests.support.models:partly_frozen"}}, {"mark", "scale"}),
        (
            {"model": {"factory": "tests.support.models:partly_frozen", "freeze": ["encoder.*"]}},
            {"mark", "scale", "encoder.weight", "encoder.bias"},
        ),
    ],
)
def test_a_shard_costs_four_bytes_a_meta_learned_value(options: dict[str, Any], gone: set[str], tmp_path: Path) -> None:
    config = metadist.load_config(SMALL_RUN, options)
    parts = assemble(config, build_source(config, None))
    assert set(parts.model.frozen) == gone
    assert gone.isdisjoint(name.removeprefix("model.") for name in parts.layout.names)
    flat = flatten(parts.algorithm.init(0))
    shard = plan_step(0, meta_batch_size=6, shard_size=2)[0]
    partial = factory_of(parts, None, "cpu", tmp_path)()(0, flat, shard)
    learned = sum(leaf.numel() for leaf in parts.algorithm.init(0).model.values())
    assert flat.nbytes == partial.vector.nbytes == 4 * learned == 4 * parts.layout.size
    assert partial.vector.base is None, "a view would bring its whole buffer along"
