"""The configuration: one frozen, typed tree that command line, Python, driver and actors share.

`run` has the whole of it and what must fit together, a file each its larger sections; `presets` says what an
algorithm's name stands for. `load` makes it from a recipe, `resolve` fills in what follows from something else, and
`fingerprint` says what of it the numbers depend on: these three are imported by name, so that the tree needs neither
YAML nor a user's own code.
"""

from __future__ import annotations

from metadist.config.algorithm import AlgorithmConfig, InnerOptimizerConfig
from metadist.config.objective import ObjectiveConfig
from metadist.config.run import (
    ModelConfig,
    OuterConfig,
    OuterGroup,
    RunConfig,
    ScheduleConfig,
    check_sizes,
    import_paths,
    metrics_of,
)
from metadist.config.sections import CheckpointConfig, ClusterConfig, EngineConfig, EvaluationConfig, TrackingConfig
from metadist.config.tasks import Shape, TasksConfig
from metadist.config.transforms import Transform

__all__ = [
    "AlgorithmConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "EngineConfig",
    "EvaluationConfig",
    "InnerOptimizerConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OuterConfig",
    "OuterGroup",
    "RunConfig",
    "ScheduleConfig",
    "Shape",
    "TasksConfig",
    "TrackingConfig",
    "Transform",
    "check_sizes",
    "import_paths",
    "metrics_of",
]
