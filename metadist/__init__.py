"""Distributed meta-training: tasks in Parquet, shards on Ray actors, runs and adapting models in MLflow.

Names are imported when they are first used, so that ``import metadist`` and ``metadist --help`` are quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from metadist.numerics import prepare_environment
from metadist.version import __version__

prepare_environment()  # must come before torch is imported anywhere in this process


_HOME = {
    "Batch": "tasks",
    "Context": "tasks",
    "MetaAlgorithm": "algorithms",
    "MetaParams": "parameters",
    "MetadistError": "errors",
    "Observer": "trainer",
    "Run": "run",
    "RunConfig": "config",
    "Task": "tasks",
    "TaskSpec": "tasks",
    "build_algorithm": "algorithms",
    "build_model": "models",
    "build_objective": "objectives",
    "evaluate_run": "run",
    "leaves": "parameters",
    "load_adapter": "adapter",
    "load_config": "config.load",
    "load_run": "run",
    "meta_gradient": "loop",
    "open_tasks": "loop",
    "parts_of": "loop",
    "params_sha256": "parameters",
    "register": "registry",
    "train": "run",
    "write_store": "tasks_store",
}

__all__ = [
    "Batch",
    "Context",
    "MetaAlgorithm",
    "MetaParams",
    "MetadistError",
    "Observer",
    "Run",
    "RunConfig",
    "Task",
    "TaskSpec",
    "__version__",
    "build_algorithm",
    "build_model",
    "build_objective",
    "evaluate_run",
    "leaves",
    "load_adapter",
    "load_config",
    "load_run",
    "meta_gradient",
    "open_tasks",
    "params_sha256",
    "parts_of",
    "register",
    "train",
    "write_store",
]

if TYPE_CHECKING:
    from metadist.adapter import load_adapter
    from metadist.algorithms import MetaAlgorithm, build_algorithm
    from metadist.config import RunConfig
    from metadist.config.load import load_config
    from metadist.errors import MetadistError
    from metadist.loop import meta_gradient, open_tasks, parts_of
    from metadist.models import build_model
    from metadist.objectives import build_objective
    from metadist.parameters import MetaParams, leaves, params_sha256
    from metadist.registry import register
    from metadist.run import Run, evaluate_run, load_run, train
    from metadist.tasks import Batch, Context, Task, TaskSpec
    from metadist.trainer import Observer
    from tasks_store import write_store


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'metadist' has no attribute {name!r}")
    module = importlib.import_module(home if home == "tasks_store" else f"metadist.{home}")
    return getattr(module, name)
