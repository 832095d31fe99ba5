"""What functions of the user's own return, checked for one task: every refusal says what was found and what fits.

Legend: P meta-learned leaves, N queries, K inner steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metadist.errors import ConfigError
from metadist.parameters import Layout, MetaParams, named_leaves
from metadist.tasks import Batch, Task, TaskSpec


def check_initial(initial: Any, name: str) -> None:
    """Refuse what ``init`` of an algorithm returned unless it is a `MetaParams` of float32 leaves.

    Raises:
        ConfigError: names the leaf.
    """
    who = f"algorithm.name {name!r}: init"
    tree = _tree(initial, who)
    for leaf, value in tree.items():
        if value.dtype != torch.float32:
            raise ConfigError(f"{who} gives {leaf} of type {value.dtype}; what is learned is float32")
    if not tree:
        raise ConfigError(f"{who} gives no leaves, so there is nothing to learn")


def check_direction(found: Any, layout: Layout, name: str) -> None:
    """Refuse what ``meta_gradient`` returned unless it is a direction like ``init`` and (sum, count) metrics.

    Raises:
        ConfigError: names the leaf or the metric.
    """
    who = f"algorithm.name {name!r}: meta_gradient"
    if not isinstance(found, tuple) or len(found) != 2:
        raise ConfigError(f"{who} returned {_kind(found)}; it must return (direction, metrics)")
    tree, wanted = _tree(found[0], f"{who}'s direction"), dict(zip(layout.names, layout.shapes, strict=True))
    missing, more = [leaf for leaf in wanted if leaf not in tree], [leaf for leaf in tree if leaf not in wanted]
    if missing or more:
        parts = [f"has no {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(more)}"] * bool(more)
        raise ConfigError(
            f"{who}'s direction {' and '.join(parts)}; it must have the leaves of init, no more and no less"
        )
    for leaf, shape in wanted.items():
        if tuple(tree[leaf].shape) != shape:
            raise ConfigError(f"{who}'s direction has {leaf} of shape {tuple(tree[leaf].shape)}; init gives {shape}")
    if tuple(tree) != layout.names:
        raise ConfigError(
            f"{who}'s direction has its leaves in the order {', '.join(tree)}; init's is {', '.join(wanted)}"
        )
    if not isinstance(found[1], Mapping):
        raise ConfigError(f"{who}'s metrics are {_kind(found[1])}; they must be a dict of name -> (sum, count)")
    for metric, pair in found[1].items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(_scalar(value) for value in pair)):
            raise ConfigError(
                f"{who}'s metric {metric!r} is {_kind(pair)}; it must be a pair (sum, count) of scalar tensors, "
                "for instance (loss.detach(), torch.ones_like(loss))"
            )


def check_path(path: Any, num_steps: int, name: str) -> None:
    """Refuse what ``path`` returned unless it is a list of K + 1 predictors.

    Raises:
        ConfigError: says how many there are.
    """
    if not isinstance(path, list) or len(path) != num_steps + 1:
        count = f" of {len(path)}" if isinstance(path, list | tuple) else ""
        raise ConfigError(
            f"algorithm.name {name!r}: path(num_steps={num_steps}) returned {_kind(path)}{count}; "
            f"it must return a list of {num_steps + 1} predictors, after 0..{num_steps} inner steps"
        )


def check_outputs(outputs: Any, count: int, spec: TaskSpec, name: str) -> None:
    """Refuse what ``predict`` returned unless it is (N, outputs) of numbers.

    Raises:
        ConfigError: with both shapes.
    """
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != (count, spec.outputs):
        raise ConfigError(
            f"algorithm.name {name!r}: predict returned {_kind(outputs)} for {count} inputs; "
            f"the tasks need ({count}, {spec.outputs})"
        )


def check_scores(loss: Any, metrics: Any, deciding: str, name: str) -> None:
    """Refuse what an objective returned unless both are scalars, and the deciding metric is among them.

    Raises:
        ConfigError: names the metric.
    """
    who = f"objective.name {name!r}"
    if not _scalar(loss):
        raise ConfigError(f"{who}: loss returned {_kind(loss)}; it must be a scalar tensor, the mean over examples")
    if not isinstance(metrics, Mapping):
        raise ConfigError(f"{who}: metrics returned {_kind(metrics)}; it must be a dict of name -> scalar tensor")
    if "loss" in metrics:
        raise ConfigError(f"{who}: metrics holds 'loss', which is the loss itself already; give it another name")
    for metric, value in metrics.items():
        if not _scalar(value):
            raise ConfigError(f"{who}: metric {metric!r} is {_kind(value)}; it must be a scalar tensor")
    known = [*metrics, "loss"]
    if deciding not in known:
        raise ConfigError(f"evaluation.metric {deciding} is not measured by {who}; it measures {', '.join(known)}")


def check_task(task: Any, spec: TaskSpec, count: int, what: str) -> None:
    """Refuse what a source returned unless it is ``count`` tasks of ``spec``.

    Raises:
        ConfigError: with both shapes.
    """
    if not isinstance(task, Task):
        raise ConfigError(f"{what} returned {_kind(task)}; it must return a metadist.tasks.Task")
    y_shape, y_type = ((), torch.int64) if spec.kind == "classes" else ((spec.outputs,), torch.float32)
    for half, size in (("support", spec.support_size), ("query", spec.query_size)):
        batch = getattr(task, half)
        if not isinstance(batch, Batch) or not isinstance(batch.x, Tensor) or not isinstance(batch.y, Tensor):
            found = "a dict of inputs" if isinstance(batch, Batch) and isinstance(batch.x, dict) else _kind(batch)
            raise ConfigError(f"{what}: {half} is {found}; it must be a metadist.tasks.Batch of tensors x and y")
        wanted = {
            "x": ((count, size, *spec.input_shape), torch.float32),
            "y": ((count, size, *y_shape), y_type),
        }
        for name, (shape, dtype) in wanted.items():
            leaf = getattr(batch, name)
            if tuple(leaf.shape) != shape or leaf.dtype != dtype:
                raise ConfigError(
                    f"{what}: {half}.{name} is {_kind(leaf)}; its spec says {dtype} of shape {shape} for {count} tasks"
                )
        if spec.kind == "classes" and not bool(((batch.y >= 0) & (batch.y < spec.outputs)).all()):
            raise ConfigError(f"{what}: {half}.y has labels outside 0..{spec.outputs - 1}, the classes of its spec")


def _tree(found: Any, who: str) -> dict[str, Tensor]:
    if getattr(found, "_fields", ()) != MetaParams._fields or not all(isinstance(half, dict) for half in found):
        raise ConfigError(
            f"{who} is {_kind(found)}; it must be metadist.MetaParams(model, inner), two dicts of tensors"
        )
    named = named_leaves(MetaParams(*found))
    for leaf, value in named.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{who}: {leaf} is {_kind(value)}; it must be a tensor")
    return named


def _scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return f"{type(value).__name__}"
