"""The examples of docs/tasks.md are run as they stand: stores written, trained, judged, registered, served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import metadist
from metadist.cli import app
from tests.support.documents import document

PAGE = document("tasks.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        PAGE.lay_out(place, patch)
        yield place


def run_example(name: str) -> None:
    exec(compile(PAGE.blocks[name], name, "exec"), {})
    own = PAGE.about(f"runs/{name}")
    assert [command[0] for command in own] == ["train", "evaluate", "register"]
    for command in own:
        app(command, standalone_mode=False)


@pytest.mark.slow
def test_machines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("machines")
    printed = capsys.readouterr().out
    assert all(f"{size:>5} support  mae" in printed for size in (0, 2, 8)) and "ridge regression" in printed
    model = metadist.load_adapter("models:/machines@candidate")
    assert model.adapt([], []).predict([[100.0, 90.0, 110.0]]).shape == (1,)
    assert model.self_test() == 0.0


@pytest.mark.slow
def test_questions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("questions")
    capsys.readouterr()
    exec(compile(PAGE.blocks["questions-served"], "questions-served", "exec"), {})
    assert re.fullmatch(r"\['\w+' '\w+'\]\n", capsys.readouterr().out)
    import mlflow
    from mlflow.pyfunc import scoring_server

    served = mlflow.pyfunc.load_model("models:/questions@candidate")
    asked = {"support_x": ["a cheque", "a fee", "a branch"], "support_y": ["c", "f", "b"], "query_x": ["my fee"]}
    found = served.predict({name: np.array(values, object) for name, values in asked.items()})
    model = metadist.load_adapter("models:/questions@candidate")
    body = json.dumps({"inputs": asked})  # as a server reads it
    answer = scoring_server.invocations(body, "application/json", served, served.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    assert json.loads(answer.response)["predictions"] == found
    assert found["labels"] == model.adapt(asked["support_x"], asked["support_y"]).predict(asked["query_x"]).tolist()
