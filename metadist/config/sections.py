"""Sections of the configuration that say how, where and how often a run computes, is judged, kept and tracked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from metadist.config.wording import problems_of

MAX_SEED = 2**63 - 1


class Section(BaseModel):
    """Base of all sections: frozen, a key that is not known is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _meant(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML 1.1 has ``on`` and ``off`` as booleans, and a section without keys as null; a number is no boolean."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and "off" in get_args(kind):
            return "on" if value else "off"
        if value is None and (get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Section))):
            return {}
        if _has_boolean(value) and _is_numeric(kind):
            raise ValueError("needs a number, not true or false")
        return value


def _has_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_boolean, value)))


def _is_numeric(kind: Any) -> bool:
    return kind in (int, float) or any(map(_is_numeric, get_args(kind)))


T = TypeVar("T", bound=Section)


def checked_options(section: type[T], options: Mapping[str, Any], who: str) -> T:
    """The options of ``who`` as a section, problems in one line.

    Raises:
        ValueError: an option that it does not have, or a value that does not fit.
    """
    try:
        return section.model_validate(dict(options))
    except ValidationError as error:
        raise ValueError(f"options of {who}: {'; '.join(problems_of(error, section))}") from None


class EngineConfig(Section):
    """How a shard is computed. Everything here may change the bits, so everything is in the fingerprint."""

    chunk_size: PositiveInt | None = Field(None, description="tasks computed at once; the shard where null")
    compile: Literal["auto", "on", "off"] = "auto"
    tasks_axis: Literal["vmap", "loop"] = "vmap"
    precision: Literal["float32"] = "float32"
    threads: PositiveInt = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"


class ClusterConfig(Section):
    """Where shards run. Nothing here changes a number, and nothing here is in the fingerprint."""

    backend: Literal["ray", "local"] = "ray"
    address: str | None = None
    num_workers: PositiveInt | Literal["auto"] = "auto"
    max_workers: PositiveInt | None = Field(None, description="null: num_workers; more join as nodes do")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    max_attempts: PositiveInt = 3
    max_restarts: int = Field(10, ge=0, description="replaced workers allowed within restart_window_s")
    restart_window_s: float = Field(300, gt=0)
    min_workers: PositiveInt = Field(1, description="go on with so many, where the others are late or lost")
    warmup_timeout_s: float = Field(600, gt=0)
    capacity_timeout_s: float = Field(600, gt=0, description="how long fewer than min_workers are borne, later")
    allow_mixed_numerics: bool = Field(False, description="take on workers whose canary shard gives other bits")
    deadline_factor: float = Field(10, gt=0, description="a shard is late after this multiple of the median")
    deadline_min_s: float = Field(30, gt=0, description="no shard is late sooner")


class EvaluationConfig(Section):
    """Fixed tasks on which runs are compared; ``best`` is chosen on validation by ``metric``."""

    every_steps: PositiveInt = 200
    num_tasks: PositiveInt = 600
    validation_tasks: PositiveInt | None = Field(None, description="tasks of the checks in training; num_tasks")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    metric: str | None = Field(None, description="chooses the best checkpoint; an objective of your own: loss")
    maximise: bool | None = Field(None, description="whether more of the metric is better; accuracy where null")
    inner_steps: int | None = Field(None, ge=0, description="algorithm.inner_steps where null")
    shots: NonNegativeInt | None = Field(None, description="tasks.shots, or the most of tasks.support, where null")
    queries: PositiveInt | None = None
    support: tuple[NonNegativeInt, ...] = Field(
        (), description="kind groups: `metadist evaluate` judges with each of these numbers of support examples"
    )

    def tasks_of(self, split: str) -> int:
        """How many fixed tasks of ``split`` are judged: the checks in training may take fewer."""
        return self.validation_tasks or self.num_tasks if split == "validation" else self.num_tasks


class CheckpointConfig(Section):
    """How often the run is made whole on disk, and how many are kept (the best one always)."""

    every_steps: PositiveInt = 100
    keep: PositiveInt = 3
    lease_s: float = Field(60, gt=0, description="another driver may take over from one that is silent for longer")


class TrackingConfig(Section):
    """Where runs are mirrored. ``required`` refuses to start when the server is away."""

    uri: str | None = None
    experiment: str = "metadist"
    required: bool = False
