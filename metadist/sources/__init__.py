"""Where tasks come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metadist.config import RunConfig
from metadist.config.presets import is_own
from metadist.errors import ConfigError
from metadist.own.code import built, search_in
from metadist.sources.parquet import ParquetSource
from metadist.sources.sinusoid import SinusoidSource
from metadist.tasks import TaskSource
from metadist.transforms.chain import digest_of
from metadist.transforms.step import Array
from metadist.transforms.targets import Targets, fitted_arrays

__all__ = [
    "ParquetSource",
    "SinusoidSource",
    "build_shapes",
    "build_source",
    "fitted_digest",
    "fitted_of",
    "left_out",
    "targets_of",
    "told_left_out",
]

NEEDED = ("spec", "fixed_spec", "fingerprint", "check", "batch", "fixed", "task_set")


def build_shapes(config: RunConfig, source: TaskSource, location: str | None) -> tuple[TaskSource, ...]:
    """A source for each shape of training tasks; ``source`` itself where there is one only."""
    if not config.tasks.shapes:
        return (source,)
    if isinstance(source, ParquetSource):
        return tuple(source.shaped(tasks) for tasks in config.tasks.shaped())
    return tuple(build_source(config.model_copy(update={"tasks": tasks}), location) for tasks in config.tasks.shaped())


def build_source(config: RunConfig, location: str | None, fitted: Mapping[str, Array] | None = None) -> TaskSource:
    """The configured source. ``location`` is where the named store was found; a worker never looks it up itself.
    ``fitted`` is what the driver's transforms learned (`fitted_of`); without it they are fitted, or found fitted.

    Raises:
        ConfigError: one of the user's own cannot be built, or is no `metadist.tasks.TaskSource`.
    """
    tasks, evaluation = config.tasks, config.evaluation
    shots = tasks.most_shots if evaluation.shots is None else evaluation.shots
    queries = evaluation.queries or tasks.queries
    search_in(config.code_path)
    if is_own(tasks.source):
        sizes = {"sizes": (tasks.shots, tasks.queries), "fixed_sizes": (shots, queries)}
        seeds = {"run_seed": config.seed, "evaluation_seed": evaluation.seed}
        found = built(tasks.source, "tasks.source", **{**tasks.options, **seeds, **sizes})
        lacking = [name for name in NEEDED if not hasattr(found, name)]
        if lacking:
            raise ConfigError(
                f"tasks.source {tasks.source!r} gave {type(found).__name__}, which has no {', '.join(lacking)}; "
                f"metadist.tasks.TaskSource says what each of {', '.join(NEEDED)} is"
            )
        source: TaskSource = found
        return source
    if tasks.source == "synthetic":
        return SinusoidSource(
            location,
            run_seed=config.seed,
            evaluation_seed=evaluation.seed,
            sizes=(tasks.shots, tasks.queries),
            fixed_sizes=(shots, queries),
        )
    return ParquetSource(
        tasks,
        location or "",
        run_seed=config.seed,
        evaluation_seed=evaluation.seed,
        shots=shots,
        queries=queries,
        support_sizes=evaluation.support,
        fitted=fitted,
    )


def fitted_of(source: TaskSource) -> dict[str, Array]:
    """What the transforms of a source learned, as named arrays; empty where there are none."""
    return fitted_arrays(source.chain, source.targets) if isinstance(source, ParquetSource) else {}


def fitted_digest(source: TaskSource) -> str:
    """SHA-256 of it; empty where there is none."""
    arrays = fitted_of(source)
    return digest_of(arrays) if arrays else ""


def targets_of(source: TaskSource) -> Targets | None:
    """How its targets are transformed; None where they are taken as they are."""
    return source.targets if isinstance(source, ParquetSource) else None


def left_out(sources: Sequence[TaskSource], split: str, *, fixed: bool) -> tuple[str, ...]:
    """Names of the groups of ``split`` that are too small for the tasks of some of the sources: they are not drawn."""
    found = [source.left_out(split, fixed=fixed) for source in sources if isinstance(source, ParquetSource)]
    return tuple(dict.fromkeys(name for names in found for name in names))


def told_left_out(names: Sequence[str], split: str) -> str:
    """A line for people about them."""
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{len(names)} groups of split {split} have too few rows for a task and are not drawn: {shown}"
