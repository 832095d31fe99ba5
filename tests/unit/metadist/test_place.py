"""How many workers a configuration asks of a cluster, beside a stand-in for Ray that only counts cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster import RayOptions
from metadist.config.load import load_config
from metadist.launch import groups
from metadist.launch.groups import chosen, place_of
from tests.support.quick import SMALL_RUN

RAY = {"cluster.backend": "ray", "outer.meta_batch_size": 16, "outer.shard_size": 1}


def test_auto_divides_the_cores_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that a Ray of our own would declare for as many workers as there are cores."""
    asked: list[RayOptions] = []

    @contextmanager
    def joined(options: RayOptions) -> Iterator[dict[str, float]]:
        asked.append(options)
        yield {"CPU": max(8.0, options.num_workers * options.cpus_per_worker)}  # as `cluster.connect` declares

    monkeypatch.setattr(groups, "joined", joined)

    def workers(**cluster: Any) -> int:
        config = load_config(SMALL_RUN, {**RAY, **{f"cluster.{key}": value for key, value in cluster.items()}})
        with place_of(config) as place:
            assert place == chosen(config, {"CPU": 8.0}), "the plan of a dry run"
            return place.num_workers

    assert workers(cpus_per_worker=2) == 4
    assert workers(cpus_per_worker=1) == 8
    assert workers(cpus_per_worker=2, num_workers=3) == 3 and asked[-1].num_workers == 3
