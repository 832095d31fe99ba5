"""Sources are pure: a task is a function of (seed, split, step, index), however a batch is cut. And transforms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from metadist import load_config, open_tasks
from metadist.config import RunConfig
from metadist.errors import DataError
from metadist.sources import ParquetSource, build_source
from metadist.stores import locate
from metadist.tasks import Task
from tasks_store import Column, NotEnoughExamples, write_store
from tests.support.quick import IMAGE_RUN, SMALL_RUN

Row = dict[str, Any]


def toy_store(place: Path, kind: str = "classes") -> str:
    """Twelve classes (six to train on) of six 4 x 4 images. The pixel values say class, drawing and corner."""
    rows: list[Row] = []
    for number in range(12):
        split = "train" if number < 6 else "validation" if number < 9 else "test"
        for drawing in range(6):
            image = np.full((4, 4), 10 * number + drawing, np.uint8)
            image[0, 0] = 255
            row = {"group": f"class-{number:02d}", "split": split, "image": image, "y": float(10 * number)}
            rows.append({**row, "domain": f"domain-{number % 2}"})
    columns = [Column(name="image", dtype="uint8", shape=(4, 4))]
    if kind == "groups":
        columns.append(Column(name="y", dtype="float32"))
    else:
        rows = [{name: value for name, value in row.items() if name != "y"} for row in rows]
    write_store(rows, place, name="toy", kind=kind, columns=columns)  # type: ignore[arg-type]
    return str(place)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    folder = tmp_path_factory.mktemp("toys")
    classes = {"tasks.path": toy_store(folder / "classes"), "tasks.ways": 3, "tasks.queries": 2}
    groups = {
        "path": toy_store(folder / "groups", "groups"),
        "kind": "groups",
        "target": "y",
        "transform": [{"name": "pixels"}],
        "shots": 2,
        "queries": 3,
    }
    regression = {"objective.name": "regression", "model": {"name": "mlp"}, "evaluation.metric": None}
    return {
        "classes": load_config(IMAGE_RUN, classes),
        "rotations": load_config(IMAGE_RUN, {**classes, "tasks.rotations": True}),
        "groups": load_config(IMAGE_RUN, {"tasks": groups, **regression}),
        "time": load_config(IMAGE_RUN, {"tasks": {**groups, "order": "time"}, **regression}),
        "sized": load_config(IMAGE_RUN, {"tasks": {**groups, "support": [0, 2]}, **regression}),
        "sinusoid": load_config(SMALL_RUN),
    }


NAMES = ["classes", "rotations", "groups", "time", "sized", "sinusoid"]


def source_of(config: RunConfig) -> Any:
    return build_source(config, locate(config, pytest.fail))


def tensors(task: Task) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(task)[0] if isinstance(leaf, Tensor)]


def joined(tasks: Sequence[Task]) -> list[Tensor]:
    return [torch.cat(leaves) for leaves in zip(*(tensors(task) for task in tasks), strict=True)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cuts", [[0, 12], [0, 4, 8, 12], [0, 1, 5, 12], list(range(13))])
def test_a_batch_is_the_same_however_it_is_cut(name: str, cuts: list[int], configs: dict[str, RunConfig]) -> None:
    config = configs[name]
    whole = source_of(config).batch("train", 3, 0, 12)
    fixed = source_of(config).fixed("validation", 0, 12)
    source = source_of(config)
    pieces = list(pairwise(cuts))
    parts = [source.batch("train", 3, start, stop) for start, stop in reversed(pieces)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(tensors(whole), joined(parts), strict=True))
    parts = [source.fixed("validation", start, stop) for start, stop in pieces]
    assert all(torch.equal(a, b) for a, b in zip(tensors(fixed), joined(parts), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_tasks_change_with_seed_split_step_and_index(name: str, configs: dict[str, RunConfig]) -> None:
    config = configs[name]
    source, other = source_of(config), source_of(config.model_copy(update={"seed": 1}))

    def bits(task: Task) -> bytes:
        return b"".join(leaf.numpy().tobytes() for leaf in tensors(task))

    assert bits(source.batch("train", 0, 0, 4)) == bits(source.batch("train", 0, 0, 4))
    different = [
        source.batch("train", 0, 0, 4),
        source.batch("train", 1, 0, 4),
        source.batch("train", 0, 4, 8),
        source.batch("validation", 0, 0, 4),
        other.batch("train", 0, 0, 4),
    ]
    assert len({bits(task) for task in different}) == len(different)
    assert bits(source.fixed("test", 0, 4)) == bits(other.fixed("test", 0, 4)), "fixed tasks do not know the run"
    assert source.task_set("test", 4) == other.task_set("test", 4) != source.task_set("test", 5)
    judged = config.evaluation.model_copy(update={"seed": 1})
    moved = source_of(config.model_copy(update={"evaluation": judged}))
    assert moved.task_set("test", 4) != source.task_set("test", 4)
    assert bits(moved.fixed("test", 0, 4)) != bits(source.fixed("test", 0, 4))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_alignment(name: str, configs: dict[str, RunConfig]) -> None:
    source = source_of(configs[name])
    task, spec = source.batch("train", 0, 0, 5), source.spec
    for half, size in ((task.support, spec.support_size), (task.query, spec.query_size)):
        assert half is not None
        assert half.x.shape == (5, size, *spec.input_shape) and half.x.dtype == torch.float32
        assert half.y.shape == ((5, size) if spec.kind == "classes" else (5, size, spec.outputs))
        assert half.y.dtype == (torch.int64 if spec.kind == "classes" else torch.float32)
        assert half.x.data_ptr() % 64 == 0 and half.y.data_ptr() % 64 == 0


def identities(task: Task) -> tuple[Any, Any]:
    """(class, drawing) of support and of query images, read from their pixels."""
    assert task.support is not None and task.query is not None
    values = [(half.x[:, :, 0, 1:3, 1:3].mean((2, 3)) * 255).round().int() for half in (task.support, task.query)]  # type: ignore[index]
    return values[0], values[1]


@pytest.mark.parametrize("name", ["classes", "rotations"])
def test_labels_splits_and_examples(name: str, configs: dict[str, RunConfig]) -> None:
    source = source_of(configs[name])
    for split, low, high in (("train", 0, 6), ("validation", 6, 9), ("test", 9, 12)):
        task = source.fixed(split, 0, 60)
        support, query = identities(task)
        assert int(support.min()) // 10 >= low and int(query.max()) // 10 < high, "a class of another split"
        for index in range(60):
            owner = dict(zip((support[index] // 10).tolist(), task.support.y[index].tolist(), strict=True))
            assert sorted(owner.values()) == [0, 1, 2]
            assert [owner[value] for value in (query[index] // 10).tolist()] == task.query.y[index].tolist()
            assert not set(support[index].tolist()) & set(query[index].tolist()), "an example on both sides"


def test_rotations_only_in_training(configs: dict[str, RunConfig]) -> None:
    """The bright corner says how an image was turned; all images of a class in a task are turned alike."""
    source = source_of(configs["rotations"])
    corners = ((0, 0), (-1, 0), (-1, -1), (0, -1))

    def turns(task: Task) -> list[Any]:
        return [
            torch.stack([half.x[:, :, 0, a, b] == 1 for a, b in corners]).int().argmax(0)  # type: ignore[union-attr, index]
            for half in (task.support, task.query)
        ]

    support, query = turns(source.batch("train", 0, 0, 100))
    assert set(support.unique().tolist()) == {0, 1, 2, 3}
    assert torch.equal(query, support.repeat_interleave(2, 1)), "class-major order: two queries a class"
    for task in (source.batch("validation", 0, 0, 50), source.fixed("validation", 0, 50), source.fixed("train", 0, 50)):
        assert all(not turn.any() for turn in turns(task))
    assert all(not turn.any() for turn in turns(source_of(configs["classes"]).batch("train", 0, 0, 50)))


def test_classes_within_a_domain(configs: dict[str, RunConfig]) -> None:
    """Of one domain each, of every domain in turn; another task set; refused where no domain is wide enough."""

    def source_of(**settings: Any) -> ParquetSource:
        tasks = configs["classes"].tasks.model_copy(update=settings)
        found = build_source(configs["classes"].model_copy(update={"tasks": tasks}), tasks.path)
        assert isinstance(found, ParquetSource)
        return found

    sources = {within: source_of(within=within) for within in (None, "domain")}
    domains = {
        within: [
            frozenset(int(image.flatten()[-1]) // 10 % 2 for image in (255 * task).round())
            for task in source.batch("train", 0, 0, 40).support.x  # type: ignore[union-attr]
        ]
        for within, source in sources.items()
    }
    assert set(domains["domain"]) == {frozenset({0}), frozenset({1})}
    assert frozenset({0, 1}) in domains[None]
    assert sources[None].task_set("test", 5) != sources["domain"].task_set("test", 5)
    shaped = sources[None].shaped(sources[None].config.shaped()[0].model_copy(update={"within": "domain"}))
    assert torch.equal(shaped.batch("train", 0, 0, 40).support.x, sources["domain"].batch("train", 0, 0, 40).support.x)  # type: ignore[union-attr]
    with pytest.raises(NotEnoughExamples, match=r"4 ways asked for, but the largest domain .* has 3 classes"):
        source_of(within="domain", ways=4).check("train", fixed=False)


def test_time_order(configs: dict[str, RunConfig]) -> None:
    support, query = identities(source_of(configs["time"]).batch("train", 0, 0, 40))
    assert bool((query.min(1).values > support.max(1).values).all())
    assert torch.equal(support // 10, (support[:, :1] // 10).expand_as(support)), "rows of more than one group"


def test_what_cannot_be_drawn_is_refused_before_it_is(configs: dict[str, RunConfig], tmp_path: Path) -> None:
    def refused(error: type[Exception], words: str, split: str = "train", **changes: Any) -> None:
        config = configs["classes"]
        tasks = config.tasks.model_copy(update=changes)
        source = source_of(config.model_copy(update={"tasks": tasks}))
        with pytest.raises(error, match=words):
            assert source.spec is not None  # a run asks for it first
            source.check(split, fixed=False)

    refused(NotEnoughExamples, "7", ways=7)
    refused(NotEnoughExamples, "class-0", shots=4, queries=3)
    refused(DataError, "no split 'nonsense'; it has", split="nonsense")
    refused(DataError, "not a column", value="picture")
    refused(DataError, "kind classes", kind="groups", target="image")


def test_sinusoids_follow_their_formula(sinusoids: str) -> None:
    for config in (load_config(SMALL_RUN), load_config(SMALL_RUN, {"tasks.path": sinusoids})):
        task = source_of(config).batch("train", 0, 0, 500)
        amplitude, phase = task.row["amplitude"][:, None, None], task.row["phase"][:, None, None]
        for half in (task.support, task.query):
            assert torch.allclose(half.y, amplitude * torch.sin(half.x - phase), atol=1e-5)
            assert float(half.x.min()) >= -5 and float(half.x.max()) <= 5
        assert 0.1 <= float(amplitude.min()) < 0.3 and 4.8 < float(amplitude.max()) <= 5
        assert 0 <= float(phase.min()) < 0.1 and 3.0 < float(phase.max()) <= np.pi + 1e-6


def test_rows_of_a_store_stay_in_their_split(sinusoids: str) -> None:
    config = load_config(SMALL_RUN, {"tasks.path": sinusoids})
    source = source_of(config)
    seen = {split: set(source.batch(split, 0, 0, 400).row["phase"].tolist()) for split in ("train", "test")}
    assert not seen["train"] & seen["test"]


def test_a_store_is_opened_without_a_configuration(configs: dict[str, RunConfig]) -> None:
    tasks = open_tasks(str(configs["classes"].tasks.path), ways=3, queries=2)
    assert isinstance(tasks.source, ParquetSource)
    assert tasks.batch(0, 4).support.x.shape == (4, 3, 1, 4, 4)  # type: ignore[union-attr]
    ours = source_of(configs["classes"]).batch("train", 0, 0, 4)
    assert torch.equal(tasks.batch(0, 4).support.x, ours.support.x)  # type: ignore[arg-type, union-attr]


def test_turns_count_as_classes_where_training_is_checked(configs: dict[str, RunConfig]) -> None:
    tasks = configs["classes"].tasks.model_copy(update={"ways": 20, "rotations": True})
    source = source_of(configs["classes"].model_copy(update={"tasks": tasks}))
    source.check("train", fixed=False)  # six classes, each in four turns
    with pytest.raises(NotEnoughExamples, match="20 ways asked for"):
        source.check("validation", fixed=True)
