"""The ``tasks`` section of the configuration: which tasks are trained on, and how a column becomes a tensor."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from metadist.config.presets import check_shipped, is_own
from metadist.config.sections import Section
from metadist.config.transforms import Transform, check_order, check_targets


class Shape(Section):
    """One shape of training tasks; what is null is as in ``tasks`` itself."""

    ways: PositiveInt | None = None
    shots: PositiveInt | None = None
    queries: PositiveInt | None = None
    within: Literal["domain"] | None = None


def _or_short(schema: dict[str, Any]) -> None:
    """The schema of a section that may be given by its first key's value alone."""
    section = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"enum": section["properties"]["by"]["enum"]}, section]


class Order(Section):
    """How the rows of a group become support and query; ``order: time`` stands for ``order: {by: time}``."""

    model_config = ConfigDict(json_schema_extra=_or_short)

    by: Literal["random", "time"] = Field(
        "random", description="any rows; or as stored, every query row later than every support row"
    )
    cut: Literal["random", "last"] = Field(
        "random", description="by time: where in the group support ends; last: queries are the newest rows"
    )
    gap: NonNegativeInt = Field(0, description="by time: rows left out between support and query")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _read(self) -> Order:
        if self.by != "time" and (self.cut != "random" or self.gap):
            raise ValueError("tasks.order.cut and tasks.order.gap are read with tasks.order.by: time only")
        return self


class TasksConfig(Section):
    """Which tasks are trained on. ``kind: classes`` draws N-way episodes, ``kind: parameters`` one row a task."""

    source: str = Field(
        "parquet", description='parquet, synthetic, or a source of your own: "my_package.module:MyTasks"'
    )
    options: dict[str, Any] = Field({}, description="arguments of a source of your own")
    path: str | None = Field(None, description="a folder, a URI, or the name of a store under METADIST_HOME")
    name: Literal["sinusoid"] | None = Field(None, description="generator of a synthetic source")
    kind: Literal["classes", "groups", "parameters"] = "classes"
    ways: PositiveInt = 5
    shots: PositiveInt = Field(1, description="support examples, a class where there are classes")
    queries: PositiveInt = Field(15, description="query examples, a class where there are classes")
    support: tuple[NonNegativeInt, PositiveInt] | None = Field(
        None, description="kind groups: fewest and most support examples, drawn for each task; shots where null"
    )
    shapes: tuple[Shape, ...] = Field((), description="of training tasks, equally many of each in every step")
    rotations: bool = Field(False, description="turns by 90 degrees are further classes, in training only")
    within: Literal["domain"] | None = Field(
        None, description="kind classes: the classes of a task are of one domain of the store (import --split-by)"
    )
    order: Order = Field(Order(), description="kind groups: how support and query rows are taken")
    value: str | None = Field(None, description="column of the inputs; the only one where null")
    target: str | None = Field(None, description="kind groups: column of the targets")
    transform: tuple[Transform, ...] = ()
    target_transform: tuple[Transform, ...] = Field(
        (), description="kind groups: standardize or log1p, undone in answers and metrics; the loss stays in its units"
    )

    @model_validator(mode="after")
    def _complete(self) -> TasksConfig:
        if is_own(self.source):
            read = ("source", "options", "shots", "queries", "shapes")
            for key, field in type(self).model_fields.items():
                if key not in read and getattr(self, key) != field.get_default():
                    raise ValueError(
                        f"tasks.{key} is not read by a source of your own, which is given {', '.join(read[1:])}; "
                        f"write tasks.options: {{{key}: ...}} where {self.source} takes it"
                    )
            return self._with_ways()
        check_shipped("tasks.source", self.source, ("parquet", "synthetic"), self.options)
        if self.source == "parquet" and self.path is None:
            raise ValueError("tasks.source parquet needs tasks.path (a folder, a URI or the name of a store)")
        if self.source == "synthetic" and (self.name is None or self.kind != "parameters"):
            raise ValueError("tasks.source synthetic needs tasks.name and tasks.kind: parameters")
        if self.source == "synthetic" and self.transform:
            raise ValueError("tasks.transform is read by source parquet: what a synthetic source gives are numbers")
        if self.source == "parquet" and self.kind == "parameters":
            raise ValueError("parameter rows need tasks.source: synthetic, which turns a row into examples")
        if self.kind == "groups" and self.target is None:
            raise ValueError("tasks.kind groups needs tasks.target, the column to predict")
        self._check_order()
        check_order(self.transform)
        check_targets(self.target_transform)
        return self._with_ways()

    def _check_order(self) -> None:
        """Refuse what only grouped rows have, or only rows in order."""
        for key in ("support", "order", "target_transform"):
            if self.kind != "groups" and getattr(self, key) != type(self).model_fields[key].get_default():
                raise ValueError(f"tasks.{key} is read by tasks.kind groups only, not by {self.kind}")
        if self.support is None:
            return
        if self.support[0] > self.support[1]:
            raise ValueError(f"tasks.support {list(self.support)} is [fewest, most], and the first is larger")
        if any(shape.shots for shape in self.shapes):
            raise ValueError("tasks.support and the shots of tasks.shapes both say how many support examples; use one")

    @property
    def most_shots(self) -> int:
        """Rows of a training task's support tensors (a class, where there are classes)."""
        return self.shots if self.support is None else self.support[1]

    def _with_ways(self) -> TasksConfig:
        if (self.kind != "classes" or is_own(self.source)) and any(shape.ways for shape in self.shapes):
            raise ValueError(
                f"tasks.shapes names ways, which tasks of source {self.source}, kind {self.kind}, do not read"
            )
        return self

    def shaped(self) -> tuple[TasksConfig, ...]:
        """One section for each shape of training tasks; itself where there is one only."""
        named = [shape.model_dump(exclude_none=True) for shape in self.shapes]
        return tuple(self.model_copy(update={**shape, "shapes": ()}) for shape in named) or (self,)
