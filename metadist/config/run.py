"""A whole run: the sections of its model and of the outer update, and what must fit between sections.

`metadist.config.resolve` fills in what is ``auto`` or ``null`` in the arithmetic. What the cluster has (its workers,
its kind of device) is resolved by `metadist.run` before step 0 and recorded.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from metadist.config.algorithm import AlgorithmConfig
from metadist.config.objective import ObjectiveConfig, objective_options
from metadist.config.presets import OWN, check_kind, is_own, larger_is_better
from metadist.config.sections import (
    MAX_SEED,
    CheckpointConfig,
    ClusterConfig,
    EngineConfig,
    EvaluationConfig,
    Section,
    TrackingConfig,
)
from metadist.config.tasks import TasksConfig


class ModelConfig(Section):
    """The network: a shipped one by ``name``, or ``factory: "my_package.models:build"`` with ``options``."""

    name: Literal["mlp", "conv4", "resnet12", "gru", "transformer", "encoder"] | None = None
    factory: str | None = None
    options: dict[str, Any] = Field({}, description="arguments of the model's function")
    weights: str | None = Field(None, description="initial weights: a safetensors file or a run folder")
    freeze: tuple[str, ...] = Field((), description="name patterns of leaves that are never learned nor sent")

    @model_validator(mode="after")
    def _one(self) -> ModelConfig:
        if (self.name is None) == (self.factory is None):
            raise ValueError("model needs exactly one of model.name and model.factory")
        return self


class ScheduleConfig(Section):
    """Outer learning-rate schedule (torch.optim.lr_scheduler)."""

    name: Literal["none", "cosine", "linear", "step"] = "none"
    warmup_steps: int = Field(0, ge=0)
    every_steps: PositiveInt = Field(1000, description="step: how often")
    factor: float = Field(0.5, gt=0, description="step: by what")
    final: float = Field(0.0, ge=0, description="cosine, linear: the last rate as a share of outer.lr")


class OuterGroup(Section):
    """Another learning rate for the leaves whose full name matches."""

    match: tuple[str, ...]
    lr: float = Field(gt=0)


class OuterConfig(Section):
    """The outer update: which optimizer, over how many tasks, how often."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(0.001, gt=0)
    options: dict[str, Any] = Field({}, description="further arguments of the torch.optim class")
    groups: tuple[OuterGroup, ...] = ()
    schedule: ScheduleConfig = ScheduleConfig()
    meta_batch_size: PositiveInt = 32
    shard_size: PositiveInt | None = None
    num_steps: PositiveInt = 1000
    clip_norm: float | None = Field(None, gt=0)
    reduction: Literal["mean", "sum"] = "mean"
    on_nonfinite: Literal["stop", "drop"] = Field(
        "stop", description="a task with a NaN or infinite gradient or loss ends the run, or is left out and journalled"
    )


class RunConfig(Section):
    """A whole run."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    description: str = ""
    code_path: tuple[str, ...] = Field(
        (), description="folders of your own modules, searched last; where empty the YAML's and the working directory"
    )
    working_dir: str | None = Field(
        None, description="a folder of code that is sent to every worker as a whole, and searched first of code_path"
    )
    tasks: TasksConfig
    model: ModelConfig
    objective: ObjectiveConfig
    algorithm: AlgorithmConfig
    outer: OuterConfig = OuterConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        check_sizes(self.outer.meta_batch_size, self.outer.shard_size, len(self.tasks.shaped()))
        if not is_own(self.tasks.source):  # a source of one's own says itself what its tasks are
            check_kind(self.objective.name, self.algorithm.name, self.tasks.kind)
        check_support(self)
        known, metric = metrics_of(self), self.evaluation.metric
        if metric is not None and not is_own(self.objective.name) and metric not in known:
            raise ValueError(
                f"evaluation.metric {metric} is not measured by objective "
                f"{self.objective.name}; use one of {', '.join(known)}"
            )
        decides, maximise = metric or known[0], self.evaluation.maximise
        if decides in known and not is_own(self.objective.name) and maximise not in (None, larger_is_better(decides)):
            raise ValueError(f"evaluation.maximise {maximise} contradicts evaluation.metric {decides}")
        return self


def check_sizes(batch: int, shard: int | None, num_shapes: int) -> None:
    """Refuse a meta-batch that cannot be cut into shards of one size and one shape each.

    Raises:
        ValueError: names the sizes that fit.
    """
    if batch % num_shapes:
        raise ValueError(f"outer.meta_batch_size {batch} is not a multiple of the {num_shapes} tasks.shapes")
    if shard is not None and (batch // num_shapes) % shard:
        fits = [size for size in range(1, batch + 1) if (batch // num_shapes) % size == 0]
        of_each = f" ({batch // num_shapes} tasks of each of {num_shapes} shapes)" if num_shapes > 1 else ""
        raise ValueError(
            f"outer.meta_batch_size {batch}{of_each} is not a multiple of outer.shard_size {shard}; "
            f"a shard_size that fits: {', '.join(map(str, fits))}"
        )


def check_support(config: RunConfig) -> None:
    """Refuse numbers of support examples that the tasks or the algorithm cannot have.

    Raises:
        ValueError: says which key, and what to use instead.
    """
    tasks, evaluation = config.tasks, config.evaluation
    if is_own(tasks.source):
        return
    if tasks.kind != "groups" and (evaluation.support or evaluation.shots == 0):
        key = "support" if evaluation.support else "shots"
        raise ValueError(f"evaluation.{key} {getattr(evaluation, key)} needs tasks.kind groups, not {tasks.kind}")
    if tasks.support is not None and config.algorithm.inner_batch_size is not None:
        raise ValueError(
            "algorithm.inner_batch_size takes equal parts of a support set, and tasks.support draws its size: "
            "leave one of them out, or use tasks.shapes"
        )


def import_paths(config: RunConfig, *, served: bool = False) -> dict[str, str]:
    """Configuration keys that name code of the user's own, with the import paths; ``served``: what a bundle needs."""
    transforms = list(dict.fromkeys(part.name for part in config.tasks.transform if is_own(part.name)))
    more = [f"tasks.transform.{place}" for place in range(1, len(transforms))]
    named = {
        "model.factory": config.model.factory,
        "algorithm.name": config.algorithm.name if config.algorithm.family == OWN else None,
        "objective.name": config.objective.name if is_own(config.objective.name) else None,
        **dict(zip(("tasks.transform", *more), transforms, strict=False)),
        "tasks.source": config.tasks.source if is_own(config.tasks.source) and not served else None,
    }
    return {key: path for key, path in named.items() if path is not None}


def metrics_of(config: RunConfig) -> tuple[str, ...]:
    """Metrics that an evaluation of this run reports, the one that decides by default first; of an objective of one's
    own only the loss is known before it is built."""
    objective = config.objective
    if is_own(objective.name):
        return ("loss",)
    return (*objective_options(objective.name, objective.options).measured, "loss")
