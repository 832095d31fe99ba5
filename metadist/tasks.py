"""What a task is, and which tasks a step has.

Legend: S support examples, Q query examples, T tasks in a shard (the leading axis of a loaded shard).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from metadist.config import RunConfig


class Batch(NamedTuple):
    """Examples of one task: x (N, ...) or a dict of such, y (N,) or (N, D), weight (N,) or None for equal weights."""

    x: Tensor | dict[str, Tensor]
    y: Tensor
    weight: Tensor | None = None


class Task(NamedTuple):
    """One task. ``row`` holds its parameter row where it has one (a sinusoid's amplitude, an environment's goal)."""

    support: Batch | None
    query: Batch | None
    row: dict[str, Tensor] | None = None


class Context(NamedTuple):
    """The outer schedule and the randomness of a task, as data.

    Attributes:
        progress: Scalar, finished share of the run in [0, 1).
        noise_key: int64 scalar per task, the seed of whatever randomness the algorithm needs.
    """

    progress: Tensor
    noise_key: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """The static part of a task: what a model and an algorithm must know before they see one.

    Attributes:
        kind: ``"classes"``: y holds labels 0..outputs-1; ``"regression"``: y holds (outputs,) values.
        input_shape: Shape of one example's x, without the example axis.
        outputs: Width of the model's output: ways, or the width of y.
        shots: Support examples (a class, where there are classes).
        queries: Query examples (a class, where there are classes).
        vocabulary: Number of different token ids where x are such (`tokenize`); then x is a dict of ids and mask.
    """

    kind: Literal["classes", "regression"]
    input_shape: tuple[int, ...]
    outputs: int
    shots: int
    queries: int
    vocabulary: int | None = None

    @property
    def support_size(self) -> int:
        return self.shots * (self.outputs if self.kind == "classes" else 1)

    @property
    def query_size(self) -> int:
        return self.queries * (self.outputs if self.kind == "classes" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The atom of arithmetic: tasks ``start..stop-1`` of a step. Its shape comes from the plan alone.

    Attributes:
        kind: ``"train"``, or ``"evaluate"`` for fixed tasks of ``split``.
        step: Outer step (the sampler's whole state); for evaluation the step whose parameters are judged.
        index: Position in the step, 0..n-1.
        shape: Which of the configured shapes its tasks have; 0 where there is one.
    """

    kind: Literal["train", "evaluate"]
    split: str
    step: int
    index: int
    start: int
    stop: int
    shape: int = 0

    def describe(self) -> str:
        """Names the tasks, for messages."""
        first, last = self.keys()[0], self.stop - 1
        keys = first if last == self.start else f"{first}..{last}"
        return f"{self.kind} shard {self.index} of step {self.step}, tasks {keys}"

    def keys(self) -> tuple[str, ...]:
        """Keys of the tasks: ``split/step/index`` in training, ``split/fixed/index`` for fixed tasks."""
        middle = str(self.step) if self.kind == "train" else "fixed"
        return tuple(f"{self.split}/{middle}/{task}" for task in range(self.start, self.stop))


class TaskSource(Protocol):
    """Where tasks come from. Everything it returns is a pure function of its arguments and of how it was built: any
    worker may be asked for any task, more than once, and must give the same bits."""

    @property
    def spec(self) -> TaskSpec:
        """Shapes of a training task."""
        ...

    @property
    def fixed_spec(self) -> TaskSpec:
        """Shapes of an evaluation task; only shots and queries may differ from ``spec``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the data; a resume with another one is refused, and the registry keeps it."""
        ...

    def check(self, split: str, *, fixed: bool) -> None:
        """Refuse a split that cannot fill its tasks (``fixed``: those of the evaluation), before any is drawn.

        Raises:
            DataError: says what is missing.
        """
        ...

    def batch(self, split: str, step: int, start: int, stop: int) -> Task:
        """Training tasks ``start..stop-1`` of ``step``; every leaf has a leading T axis. A task does not depend on
        which others it is asked for with."""
        ...

    def fixed(self, split: str, start: int, stop: int) -> Task:
        """Evaluation tasks ``start..stop-1``, the same for every run of the same data, spec and evaluation seed."""
        ...

    def task_set(self, split: str, num_tasks: int) -> str:
        """Identity of the first ``num_tasks`` fixed tasks of ``split``: equal where the tasks are."""
        ...


def plan_step(step: int, *, meta_batch_size: int, shard_size: int, num_shapes: int = 1) -> tuple[Shard, ...]:
    """The shards of a training step. Pure; knows nothing of workers. Each shape has a block of equally many tasks.

    >>> [shard.keys() for shard in plan_step(7, meta_batch_size=4, shard_size=2)]
    [('train/7/0', 'train/7/1'), ('train/7/2', 'train/7/3')]
    >>> [shard.shape for shard in plan_step(7, meta_batch_size=4, shard_size=1, num_shapes=2)]
    [0, 0, 1, 1]
    """
    shards = _cut("train", "train", step, meta_batch_size, shard_size)
    return tuple(replace(shard, shape=shard.start * num_shapes // meta_batch_size) for shard in shards)


def plan_training(config: RunConfig, step: int) -> tuple[Shard, ...]:
    """The shards of a training step of this configuration."""
    outer, num_shapes = config.outer, len(config.tasks.shaped())
    return plan_step(
        step, meta_batch_size=outer.meta_batch_size, shard_size=outer.shard_size or 1, num_shapes=num_shapes
    )


def plan_evaluation(split: str, step: int, *, num_tasks: int, shard_size: int) -> tuple[Shard, ...]:
    """The shards of an evaluation; the last one may be shorter, since its results are kept per task."""
    return _cut("evaluate", split, step, num_tasks, shard_size)


def _cut(
    kind: Literal["train", "evaluate"], split: str, step: int, num_tasks: int, shard_size: int
) -> tuple[Shard, ...]:
    starts: Sequence[int] = range(0, num_tasks, shard_size)
    return tuple(
        Shard(kind=kind, split=split, step=step, index=i, start=a, stop=min(a + shard_size, num_tasks))
        for i, a in enumerate(starts)
    )
