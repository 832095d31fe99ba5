"""Runs that are over in a second: what leaves a run out that a law does not speak of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest import mock

import metadist
import metadist.run
from cluster import RayGroup
from metadist.config import RunConfig
from metadist.tracking import read_events

METRICS_OF_TIME = ("perf/", "system/")


class NoMirror:
    """Stands where the mirror to MLflow stands, and sends nothing."""

    run_id = "none"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def start(self) -> Self:
        return self

    def close(self, timeout: float) -> int:
        return 0


SMALL_RUN: dict[str, Any] = {
    "tasks": {"source": "synthetic", "name": "sinusoid", "kind": "parameters", "shots": 5, "queries": 5},
    "model": {"name": "mlp", "options": {"hidden": [8], "activation": "tanh"}},
    "objective": {"name": "regression"},
    "algorithm": {"name": "maml", "inner_steps": 1, "inner_lr": 0.01},
    "outer": {"optimizer": "adam", "lr": 0.01, "meta_batch_size": 6, "shard_size": 2, "num_steps": 10},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 5, "num_tasks": 4},
    "checkpoint": {"every_steps": 5},
}
"""A regression run without a store, on one worker in this process."""

IMAGE_RUN: dict[str, Any] = {
    "tasks": {"path": "omniglot", "ways": 5, "shots": 1, "queries": 1, "transform": [{"name": "pixels"}]},
    "model": {"name": "conv4", "options": {"filters": 4}},
    "objective": {"name": "classification"},
    "algorithm": {"name": "maml", "inner_steps": 1, "inner_lr": 0.4},
    "outer": {"optimizer": "adam", "lr": 0.003, "meta_batch_size": 6, "shard_size": 2, "num_steps": 4},
    "engine": {"compile": "off"},
    "cluster": {"backend": "local"},
    "evaluation": {"every_steps": 1000, "num_tasks": 6},
    "checkpoint": {"every_steps": 1000},
}
"""A classification run on real characters, with few filters."""


def train_quickly(
    recipe: Mapping[str, Any] | RunConfig, overrides: Mapping[str, Any], run_dir: Path, **options: Any
) -> metadist.Run:
    """``metadist.train``, journalled but neither mirrored to MLflow nor drawn: other tests do that, for seconds."""
    with unmirrored():
        return metadist.train(recipe, set=overrides, run_dir=run_dir, **options)


@contextmanager
def unmirrored() -> Iterator[None]:
    """Runs inside are neither mirrored to MLflow nor drawn."""
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        yield


@contextmanager
def all_workers_at_the_start() -> Iterator[None]:
    """Runs inside begin when every worker is ready: a late one may find no step left to take part in."""
    open_group = metadist.run.open_group

    def waiting(*arguments: Any) -> Any:
        group = open_group(*arguments)
        if isinstance(group, RayGroup):
            group.wait_ready()
        return group

    with mock.patch("metadist.run.open_group", waiting):
        yield


def journalled(run_dir: Any, kind: str) -> list[dict[str, Any]]:
    """The data of all journal events of a kind, with the step."""
    return [{"step": event.step, **event.data} for event in read_events(run_dir) if event.kind == kind]


def happened(run_dir: Any, name: str) -> list[dict[str, Any]]:
    """The details of what happened under this name."""
    return [event for event in journalled(run_dir, "event") if event["name"] == name]


def timeless(run_dir: Any) -> list[dict[str, Any]]:
    """The journalled metrics without those that measure the machine."""
    return [
        {name: value for name, value in row.items() if not name.startswith(METRICS_OF_TIME)}
        for row in journalled(run_dir, "metrics")
    ]
