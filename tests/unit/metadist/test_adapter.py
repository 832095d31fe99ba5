"""The serving side: what is served is what was reported, and what does not fit is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from metadist import load_adapter
from metadist.adapter import Adapter
from metadist.answers.request import answer
from metadist.config.presets import PRESETS
from metadist.errors import DataError, MetadistError, UsageError
from metadist.registry import build_bundle
from metadist.registry.code import served_code
from metadist.registry.report import RawTask, raw_tasks
from metadist.sources import build_source
from tests.support.quick import NoMirror
from tests.support.toys import NUM_TASKS, image_run, sinusoid_run


@pytest.fixture(scope="module")
def unmirrored() -> Iterator[None]:
    with mock.patch("metadist.run.MlflowMirror", NoMirror), mock.patch("metadist.run.draw", lambda folder: []):
        yield


@pytest.fixture(scope="module", params=["maml", "protonet"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, unmirrored: None) -> Adapter:
    run = image_run(tmp_path_factory.mktemp(f"images-{request.param}"), {"algorithm.name": request.param})
    return load_adapter(build_bundle(run.run_dir, run.checkpoint("best")).folder)


@pytest.fixture(scope="module")
def sinusoids(tmp_path_factory: pytest.TempPathFactory, unmirrored: None) -> Adapter:
    run = sinusoid_run(tmp_path_factory.mktemp("sinusoids"))
    return load_adapter(build_bundle(run.run_dir, run.checkpoint("best")).folder)


def tasks_of(adapter: Adapter) -> list[RawTask]:
    """The fixed test tasks as a caller sends them."""
    config = adapter.bundle.config
    raw = config.model_copy(update={"tasks": config.tasks.model_copy(update={"transform": ()})})
    return list(raw_tasks(build_source(raw, config.tasks.path), "test", NUM_TASKS))


def kept_scores(adapter: Adapter) -> dict[str, Any]:
    with np.load(adapter.bundle.folder / "tasks.npz", allow_pickle=False) as kept:
        return dict(kept)


@pytest.mark.slow
def test_served_images_equal_the_report(images: Adapter) -> None:
    equals_its_report(images)


OTHERS = {name: {"algorithm.name": name} for name in PRESETS if name not in ("maml", "protonet")}
OTHERS["maml++"]["algorithm.normalisation"] = "per-step-inductive"
OTHERS["cavia"]["model.options"] = {"filters": 4, "context": 3}
OTHERS["mini-batches"] = {"algorithm.inner_batch_size": 2, "algorithm.inner_steps": 3}
IN_SUITE = ("maml++", "r2d2", "mini-batches")  # learned inner leaves, another head, randomness in a task


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_SUITE else pytest.mark.laws) for name in OTHERS]
)
def test_every_algorithm_serves_what_it_reported(name: str, tmp_path: Path, unmirrored: None) -> None:
    run = image_run(tmp_path, OTHERS[name])
    adapter = load_adapter(build_bundle(run.run_dir, run.checkpoint("best")).folder)
    equals_its_report(adapter)
    assert adapter.self_test() == 0.0


def equals_its_report(images: Adapter) -> None:
    """What is served is what the bundle's report says, task by task."""
    kept, last = kept_scores(images), images.inner_steps
    for index, task in enumerate(tasks_of(images)):
        predictor = images.adapt(task.support_x, task.support_y)
        hits = np.float32((predictor.predict(task.query_x) == task.query_y).astype(np.float32).mean())
        assert hits == kept["query/accuracy"][index, last]
        asked = [int(np.argmax(task.query_y == label)) for label in range(3)]  # the first query of each class
        alone = np.array([predictor.predict(task.query_x[m : m + 1])[0] for m in asked])
        assert np.float32((alone == [0, 1, 2]).astype(np.float32).mean()) == kept["one_query/accuracy"][index]
        assert np.float32(predictor.support_loss[0]) == kept["support_loss"][index, 0]
        assert np.float32(predictor.support_loss[1]) == kept["support_loss"][index, last]
    means = images.bundle.report
    assert means["by_inner_steps"][str(last)]["accuracy"] == kept["query/accuracy"][:, last].astype(float).mean()
    assert means["num_tasks"] == NUM_TASKS


def test_served_values_equal_the_report(sinusoids: Adapter) -> None:
    kept = kept_scores(sinusoids)
    for index, task in enumerate(tasks_of(sinusoids)):
        for k in range(sinusoids.inner_steps + 1):
            predictor = sinusoids.adapt(task.support_x, task.support_y[:, 0], inner_steps=k)
            error = np.mean((predictor.predict(task.query_x) - task.query_y[:, 0]) ** 2)
            assert error == pytest.approx(kept["query/mse"][index, k], rel=1e-6)
            assert np.float32(predictor.support_loss[1]) == kept["support_loss"][index, k]


@pytest.mark.slow
def test_the_code_that_travels_gives_the_same_bits_elsewhere(images: Adapter, tmp_path: Path) -> None:
    """In a process that has neither Ray nor MLflow nor Parquet, nor metadist itself."""
    blocked = ["ray", "mlflow", "pyarrow", "cluster", "tasks_store", "metadist"]
    package = served_code().write(tmp_path).name
    program = f"""
import sys
sys.modules.update(dict.fromkeys({blocked}))
sys.path.insert(0, {str(tmp_path)!r})
from {package}.adapter import load_adapter
sys.exit(load_adapter({str(images.bundle.folder)!r}).self_test() != 0.0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_adapter_is_imported_without_ray_mlflow_and_parquet() -> None:
    program = "import sys; sys.modules.update(dict.fromkeys(['ray', 'mlflow', 'pyarrow'])); import metadist.adapter"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_self_test_repeats_every_bit(images: Adapter, sinusoids: Adapter) -> None:
    assert images.self_test() == 0.0
    assert sinusoids.self_test(3) == 0.0


def test_the_path_is_that_of_single_adaptations(images: Adapter) -> None:
    task = tasks_of(images)[0]
    for k, predictor in enumerate(images.path(task.support_x, task.support_y, 4)):
        single = images.adapt(task.support_x, task.support_y, inner_steps=k)
        assert np.array_equal(predictor.outputs(task.query_x), single.outputs(task.query_x))
        assert predictor.support_loss == single.support_loss


def test_labels_are_the_callers_own(images: Adapter) -> None:
    task = tasks_of(images)[0]
    names = np.array(["oak", "ash", "elm"])
    named, numbered = (images.adapt(task.support_x, y) for y in (names[task.support_y], task.support_y + 7))
    assert named.classes == ("ash", "elm", "oak") and numbered.classes == (7, 8, 9)
    assert set(named.predict(task.query_x)) <= set(names)
    assert np.allclose(named.predict_proba(task.query_x).sum(-1), 1, atol=1e-6)
    assert numbered.predict(task.query_x).dtype.kind == "i"


def test_more_examples_than_in_training_and_bytes_instead_of_floats(images: Adapter) -> None:
    one, two = tasks_of(images)[:2]
    x, y = np.concatenate([one.support_x, one.query_x]), np.concatenate([one.support_y, one.query_y])
    floats = images.adapt(x, y).outputs(two.query_x)
    assert np.array_equal(floats, images.adapt(x.astype(np.uint8), y.tolist()).outputs(two.query_x.astype(np.uint8)))


def test_as_scikit_learn(images: Adapter) -> None:
    task = tasks_of(images)[0]
    with pytest.raises(UsageError, match="call fit"):
        images.predict(task.query_x)
    fitted = images.fit(task.support_x, task.support_y)
    predictor = images.adapt(task.support_x, task.support_y)
    assert np.array_equal(fitted.predict(task.query_x), predictor.predict(task.query_x))
    assert np.array_equal(fitted.predict_proba(task.query_x), predictor.predict_proba(task.query_x))
    assert fitted.classes_.tolist() == [0, 1, 2]
    images._fitted = None  # the module's adapter is shared


def test_many_threads_get_the_same_bits(images: Adapter) -> None:
    tasks = tasks_of(images)[:8]
    alone = [images.adapt(task.support_x, task.support_y).outputs(task.query_x) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda task: images.adapt(task.support_x, task.support_y).outputs(task.query_x), tasks)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


X, Y, Q = np.full((6, 12, 12), 7.0), [0, 0, 1, 1, 2, 2], np.full((1, 12, 12), 7.0)
BAD_INPUTS = {
    "shape": ((X[:, :11], Y, Q), r"support_x has shape \(6, 11, 12\); this model takes \(examples, 12, 12\)"),
    "channel axis": ((X[:, None], Y, Q), "support_x has shape"),
    "query shape": ((X, Y, Q[0]), "query_x has shape"),
    "no queries": ((X, Y, Q[:0]), "query_x is empty"),
    "ragged": (([[1], [2, 3]], Y, Q), "support_x is not a regular array"),
    "text": ((X.astype(str), Y, Q), "support_x has type <U"),
    "null": ((np.where(X == 7, None, X), Y, Q), "support_x holds nulls"),
    "nan": ((np.where(X == 7, np.nan, X), Y, Q), r"support_x\[0, 0, 0\] is nan"),
    "scaled": ((X / 255, Y, Q), "support_x has fractions.*already scaled"),
    "fractions": ((X, Y, Q + 0.5), "query_x has fractions"),
    "out of range": ((X * 100, Y, Q), "support_x has values from 700.0 to 700.0.*0 to 255"),
    "negative": ((X - 8, Y, Q), "support_x has values from -1.0"),
    "count": ((X, Y[:5], Q), "5 labels for 6 support examples"),
    "few classes": ((X, [0, 0, 0, 1, 1, 1], Q), "2 distinct labels .*exactly 3 classes"),
    "many classes": ((X, list("abcdef"), Q), "6 distinct labels"),
    "null label": ((X, [0, 0, 1, None, 2, 2], Q), r"support_y\[3\] is null"),
    "nan label": ((X, [0, 0, 1, float("nan"), 2, 2], Q), r"support_y\[3\] is null"),
    "float label": ((X, [0, 0, 1, 1.5, 2, 2], Q), r"support_y\[3\] is 1.5 \(float\)"),
    "truth value": ((X, [True, True, 0, 0, 1, 1], Q), r"support_y\[0\] is True"),
    "mixed labels": ((X, [0, 0, 1, "1", 2, 2], Q), "mixes strings and integers"),
    "label table": ((X, np.zeros((6, 1)), Q), "support_y has shape"),
    "one label": ((X, 3, Q), "support_y is int"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_what_does_not_fit_is_refused(images: Adapter, case: str) -> None:
    (support_x, support_y, query_x), message = BAD_INPUTS[case]
    with pytest.raises(DataError, match=message) as caught:
        images.adapt(support_x, support_y).predict(query_x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [-1, 1001, 1.5, "3", True])
def test_inner_steps_out_of_range(images: Adapter, steps: Any) -> None:
    with pytest.raises(UsageError, match="inner_steps"):
        images.adapt(X, Y, inner_steps=steps)


def test_a_regression_has_values_and_no_probabilities(sinusoids: Adapter) -> None:
    task = tasks_of(sinusoids)[0]
    predictor = sinusoids.adapt(task.support_x, task.support_y)
    assert predictor.predict(task.query_x).shape == (7,)
    with pytest.raises(UsageError, match="regression"):
        predictor.predict_proba(task.query_x)
    with pytest.raises(DataError, match=r"support_y\[1\] is inf"):
        sinusoids.adapt(task.support_x, [0.0, np.inf, 0.0, 0.0, 0.0])
    with pytest.raises(DataError, match="support_y has shape"):
        sinusoids.adapt(task.support_x, [[0.0, 1.0]] * 5)


def test_an_answer_carries_what_was_done(images: Adapter) -> None:
    task = tasks_of(images)[0]
    request = {"support_x": task.support_x, "support_y": task.support_y, "query_x": task.query_x}
    given = answer(images, request, {"inner_steps": 1})
    predictor = images.adapt(task.support_x, task.support_y, inner_steps=1)
    assert given["inner_steps"] == 1 and given["bundle"] == images.bundle.id
    assert given["support_loss"] == list(predictor.support_loss)
    assert np.array_equal(np.array(given["probabilities"], np.float32), predictor.predict_proba(task.query_x))
    with pytest.raises(MetadistError, match="no support_y and no query_x"):
        answer(images, {"support_x": task.support_x})


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a model bundle"):
        load_adapter(tmp_path)
