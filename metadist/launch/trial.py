"""The start-up trial: the run's first two tasks, through every function of the user's own, before step 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metadist.config import import_paths
from metadist.errors import ConfigError
from metadist.launch.finite import Judged, check_finite, check_judged, judged, nothing_learned
from metadist.own.code import guarded
from metadist.parameters import MetaParams, flatten, leaves
from metadist.returned import check_direction, check_outputs, check_path, check_scores, check_task
from metadist.shard import batched, context_of, looped, part_of
from metadist.sources import ParquetSource
from metadist.tasks import Context, Task, TaskSource, TaskSpec
from metadist.transforms.chain import KEY
from metadist.worker import Assembly

MATHEMATICS = ("algorithm.name", "objective.name", "model.factory")
COUNT = 2  # the fewest that show whether a task depends on its neighbours


def try_first_tasks(parts: Assembly) -> None:
    """Draw the run's first tasks, whose values must be finite, and try the parts of the user's own on them.

    Raises:
        ConfigError: names the key, the function, what it returned and what fits.
        DataError: the store's values are not finite.
    """
    own = import_paths(parts.config)
    if "tasks.source" in own:
        _guarded(f"tasks.source {own['tasks.source']!r}", "", lambda: _check_source(parts.source, own["tasks.source"]))
    transforms = [path for key, path in own.items() if key.startswith(KEY)]
    if transforms and isinstance(parts.source, ParquetSource):
        _check_transforms(parts.source, " and ".join(map(repr, transforms)))
    source = parts.training[0][0]
    tasks = source.batch("train", 0, 0, COUNT)
    check_finite(source, tasks, own.get("tasks.source"), drop=parts.config.outer.on_nonfinite == "drop")
    if any(key in own for key in MATHEMATICS):
        _check_mathematics(parts, tasks)


def _check_source(source: TaskSource, name: str) -> None:
    halves: tuple[tuple[str, TaskSpec, Callable[[int, int], Task], str], ...] = (
        ("train", source.spec, lambda a, b: source.batch("train", 0, a, b), "batch('train', 0, 0, 2)"),
        ("validation", source.fixed_spec, lambda a, b: source.fixed("validation", a, b), "fixed('validation', 0, 2)"),
    )
    for split, spec, draw, call in halves:
        what = f"tasks.source {name!r}: {call}"
        both = draw(0, COUNT)
        check_task(both, spec, COUNT, what)
        if not _same(both, draw(0, COUNT)):
            raise ConfigError(
                f"{what} gives other tasks when asked again; draw from a generator that is seeded by the arguments "
                "(metadist.seeding.generator), not from a global one"
            )
        if not _same(part_of(both, 1, 2), draw(1, COUNT)):
            raise ConfigError(
                f"{what} gives another second task than the same from 1 to 2: a {split} task must not depend on which "
                "others it is asked for with, or the number of workers would change it; seed each by its own index"
            )
    if not isinstance(source.fingerprint, str) or not isinstance(source.task_set("validation", COUNT), str):
        raise ConfigError(f"tasks.source {name!r}: fingerprint and task_set must be text")


def _check_transforms(source: ParquetSource, names: str) -> None:
    support, query = source.raw_fixed("validation", 0, COUNT)
    values = query.x if support.x.shape[1] < COUNT else support.x
    whole, alone = (
        found if isinstance(found, dict) else {"values": found}
        for found in (source.chain(values), source.chain(values[1:, -1:]))
    )
    for name, leaf in whole.items():
        if not np.allclose(leaf[1:, -1:], alone[name], rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ConfigError(
                f"{KEY} {names}: an example alone becomes something else than beside others; a served model is sent "
                "examples in other company, so apply must treat each by itself (what they share belongs into fit)"
            )


def _check_mathematics(parts: Assembly, tasks: Task) -> None:
    config, objective, (source, algorithm) = parts.config, parts.objective, parts.training[0]
    own = import_paths(config)
    name, judge = config.algorithm.name, config.objective.name
    spec, num_steps = source.spec, config.evaluation.inner_steps or 0
    meta = algorithm.init(config.seed)
    lifted = config.engine.tasks_axis == "vmap"
    lift = batched if lifted else looped
    context = context_of(config, "train", 0, 0, COUNT)
    cure = " (under vmap over tasks: avoid .item(), branches on values and writes in place, or engine.tasks_axis: loop)"
    who = " with ".join(f"{key} {own[key]!r}" for key in MATHEMATICS if key in own)

    def direction(meta: MetaParams, task: Task, ctx: Context) -> Any:
        found = algorithm.meta_gradient(meta, task, ctx)
        if "algorithm.name" in own:
            check_direction(found, parts.layout, name)
        return found

    def scores(meta: MetaParams, task: Task, ctx: Context) -> tuple[Tensor, Tensor, Judged]:
        assert task.support is not None and task.query is not None
        query, path = task.query, algorithm.path(meta, task.support, ctx, num_steps=num_steps)
        if "algorithm.name" in own:
            check_path(path, num_steps, name)
        outputs, start = algorithm.predict(path[-1], query.x), algorithm.predict(path[0], query.x)
        if "algorithm.name" in own:
            check_outputs(outputs, spec.query_size, spec, name)
        if "objective.name" in own:
            loss, metrics = objective.loss(start, query), objective.metrics(start, query)
            check_scores(loss, metrics, config.evaluation.metric or "loss", judge)
        adapted = algorithm.adapt(meta, task.support, ctx, num_steps=num_steps)
        return outputs, algorithm.predict(adapted, query.x), judged(objective, start, query)

    if "algorithm.name" in own and not torch.equal(_flat(meta), _flat(algorithm.init(config.seed))):
        raise ConfigError(
            f"algorithm.name {name!r}: init({config.seed}) gives other values when called again; take "
            "model.initial(seed), or draw from a torch.Generator that is seeded by its argument"
        )
    with torch.no_grad():
        outputs, adapted, first = _guarded(
            f"{who}: path, adapt, predict or loss", cure if lifted else "", lambda: lift(scores)(meta, tasks, context)
        )
    if not torch.allclose(outputs, adapted, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise ConfigError(
            f"algorithm.name {name!r}: adapt(num_steps={num_steps}) predicts something else than the last of "
            f"path(num_steps={num_steps}); a model is judged by path and served by adapt, so both must agree"
        )
    if "objective.name" in own:
        check_judged(first, judge, drop=config.outer.on_nonfinite == "drop")
    found, _ = _guarded(f"{who}: meta_gradient", cure if lifted else "", lambda: lift(direction)(meta, tasks, context))
    if not any(bool(leaf.any()) for leaf in leaves(found)):
        raise ConfigError(f"{who}: {nothing_learned(parts.model, config.seed, tasks, first)}")


def _guarded(who: str, cure: str, function: Callable[[], Any]) -> Any:
    return guarded(f"{who} fails on the run's first tasks{cure}", function)


def _same(one: Task, other: Task) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def _flat(meta: MetaParams) -> Tensor:
    return torch.from_numpy(flatten(meta))
