"""Every ``auto`` and ``null`` of the arithmetic, resolved once: a pure function of the configuration, never of timing,
free memory or the number of workers."""

from __future__ import annotations

from metadist.config.algorithm import AlgorithmConfig
from metadist.config.presets import OUTER, larger_is_better, resolved_switches
from metadist.config.run import OuterConfig, RunConfig, metrics_of

FOLLOWING: dict[str, str | None] = {
    "outer.shard_size": None,
    "engine.chunk_size": None,
    "algorithm.gradient": "auto",
    "evaluation.metric": None,
    "evaluation.maximise": None,
    "evaluation.inner_steps": None,
    "evaluation.shots": None,
    "evaluation.queries": None,
    "evaluation.validation_tasks": None,
}
"""The settings that follow from others, and what each is before it does."""


def resolve(config: RunConfig) -> RunConfig:
    """Fill every setting that follows from others. Pure and idempotent."""
    batch = config.outer.meta_batch_size
    shard = config.outer.shard_size or default_shard_size(batch // len(config.tasks.shaped()))
    engine = config.engine.model_copy(
        update={
            "chunk_size": config.engine.chunk_size or shard,
            "compile": _compile(config),
        }
    )
    algorithm = _algorithm(config.algorithm)
    evaluation = config.evaluation
    metric = evaluation.metric or metrics_of(config)[0]
    evaluation = evaluation.model_copy(
        update={
            "metric": metric,
            "maximise": larger_is_better(metric) if evaluation.maximise is None else evaluation.maximise,
            "inner_steps": _first(evaluation.inner_steps, algorithm.inner_steps),
            "shots": _first(evaluation.shots, config.tasks.most_shots),
            "queries": evaluation.queries or config.tasks.queries,
            "validation_tasks": evaluation.validation_tasks or evaluation.num_tasks,
        }
    )
    return config.model_copy(
        update={
            "outer": _outer(config, shard),
            "engine": engine,
            "evaluation": evaluation,
            "algorithm": algorithm,
        }
    )


def _algorithm(algorithm: AlgorithmConfig) -> AlgorithmConfig:
    settings = {key: getattr(algorithm, key) for key in type(algorithm).model_fields}
    return algorithm.model_copy(update=resolved_switches(algorithm.name, settings, algorithm.model_fields_set))


def _outer(config: RunConfig, shard_size: int) -> OuterConfig:
    """The outer section with what the algorithm's name sets there, unless it is named."""
    named = config.outer.model_dump(exclude_unset=True)
    return OuterConfig.model_validate({**OUTER.get(config.algorithm.name, {}), **named, "shard_size": shard_size})


def default_shard_size(meta_batch_size: int) -> int:
    """The largest divisor up to 8.

    >>> [default_shard_size(size) for size in (32, 25, 4, 11)]
    [8, 5, 4, 1]
    """
    return max(size for size in range(1, 9) if meta_batch_size % size == 0)


def _compile(config: RunConfig) -> str:
    """``auto``: compiling costs minutes, so only runs that are configured to be long are compiled."""
    if config.engine.compile != "auto":
        return config.engine.compile
    return "on" if config.outer.num_steps >= 20_000 else "off"


def _first(value: int | None, default: int) -> int:
    return default if value is None else value
