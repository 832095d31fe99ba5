"""The MLflow client against a real sqlite store: every call may be repeated, refusals are told apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metadist.tracking.client import TOKEN_TAG, TrackingClient, make_client
from metadist.tracking.errors import EventRefused
from metadist.tracking.plan import MetricRow
from metadist.tracking.sender import new_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow  # MLflow and its database take about five seconds to start


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri: str) -> TrackingClient:
    return make_client(uri)


@pytest.fixture(scope="module")
def reader(client: TrackingClient, uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def run_id(client: TrackingClient, uri: str) -> str:
    return client.ensure_run(new_run(uri, "experiment", "name"), start_time=123)


def test_a_run_is_made_once(client: TrackingClient, reader: MlflowClient, uri: str) -> None:
    run = new_run(uri, "made once", "name")
    ids = {client.ensure_run(run, start_time=123) for _ in range(3)}
    (run_id,) = ids
    found = reader.get_run(run_id)
    assert (found.info.run_name, found.info.start_time, found.data.tags[TOKEN_TAG]) == (
        "name",
        123,
        run.token,
    )
    experiment = reader.get_experiment(found.info.experiment_id)
    assert experiment.name == "made once"
    assert experiment.artifact_location == f"{Path(uri.removeprefix('sqlite:///')).parent.as_uri()}/mlruns"


def test_metrics_are_kept_once_with_their_time(client: TrackingClient, reader: MlflowClient, run_id: str) -> None:
    rows = [MetricRow("loss", 0.5, 1000 + step, step) for step in range(5)] + [MetricRow("bad", math.nan, 7, 3)]
    for _ in range(2):
        client.log_metrics(run_id, rows)
    history = reader.get_metric_history(run_id, "loss")
    assert sorted((m.step, m.timestamp, m.value) for m in history) == [(s, 1000 + s, 0.5) for s in range(5)]
    (bad,) = reader.get_metric_history(run_id, "bad")
    assert math.isnan(bad.value)


def test_a_name_that_mlflow_does_not_take_is_a_refusal(client: TrackingClient, run_id: str) -> None:
    with pytest.raises(EventRefused, match="a@b"):
        client.log_metrics(run_id, [MetricRow("a@b", 1.0, 1, 1)])


def test_a_changed_param_becomes_a_tag(client: TrackingClient, reader: MlflowClient, run_id: str) -> None:
    params = {f"p{i}": "1" for i in range(250)}
    client.log_params(run_id, params)
    client.log_params(run_id, params)
    client.log_params(run_id, params | {"p7": "2", "q": "3"})
    data = reader.get_run(run_id).data
    assert data.params == params | {"q": "3"}
    assert {name: value for name, value in data.tags.items() if name.startswith("changed.")} == {"changed.p7": "2"}


def test_tags_dataset_artifacts_and_status(
    client: TrackingClient, reader: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.txt").write_text("a")
    for _ in range(2):
        client.set_tags(run_id, {"note": "x"})
        client.log_dataset(run_id, name="omniglot", digest="d" * 64, source="/data", context="training")
        client.log_artifact(run_id, tmp_path / "plots" / "a.txt", "one")
        client.log_artifact(run_id, tmp_path / "plots", "all")
        client.set_status(run_id, "FINISHED", 456)
    run = reader.get_run(run_id)
    assert run.data.tags["note"] == "x"
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("omniglot", "d" * 36)
    assert [tag.value for tag in dataset.tags] == ["training"]
    assert sorted(f.path for folder in ("one", "all") for f in reader.list_artifacts(run_id, folder)) == [
        "all/a.txt",
        "one/a.txt",
    ]
    assert (run.info.status, run.info.end_time) == ("FINISHED", 456)
    client.set_status(run_id, "RUNNING", 789)
    assert reader.get_run(run_id).info.status == "RUNNING"
    with pytest.raises(EventRefused, match="no longer there"):
        client.log_artifact(run_id, tmp_path / "absent", "")


def test_a_run_that_is_gone_is_not_a_refusal(client: TrackingClient) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"):
        client.log_metrics("0" * 32, [MetricRow("loss", 1.0, 1, 1)])
