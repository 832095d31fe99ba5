"""The registry over HTTP: a version once, an alias that points, and a server that is away is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from metadist import Run, load_adapter
from metadist.errors import DataError, ServiceAway, UsageError
from metadist.registry import register
from metadist.tracking import TrackingUnavailable
from tests.support.toys import image_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow

NAME = "toy-images"


@pytest.fixture(scope="module")
def run(mlflow_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return image_run(tmp_path_factory.mktemp("registered"), {"tracking.uri": mlflow_server.uri})


@pytest.fixture(scope="module")
def registered(run: Run) -> dict[str, Any]:
    return register(run.run_dir, run.checkpoint("best"), name=NAME)


@pytest.fixture(scope="module")
def client(mlflow_server: Any) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_server.uri, registry_uri=mlflow_server.uri)


def test_a_version_with_its_lineage(run: Run, registered: dict[str, Any], client: MlflowClient) -> None:
    version = client.get_model_version_by_alias(NAME, "candidate")
    assert registered["is_new"] and registered["version"] == int(version.version)
    assert registered["model_uri"] == f"models:/{NAME}@candidate"
    assert version.run_id == run.summary["run_id"] == registered["run_id"]
    tags = version.tags
    assert tags["metadist.bundle"] == registered["bundle"]
    assert tags["metadist.params_sha256"] == run.checkpoint("best").state.params_sha256
    assert {"metadist.config", "metadist.store", "metadist.code", "numerics.torch_version"} <= set(tags)
    assert [output.model_id for output in client.get_run(version.run_id).outputs.model_outputs]


def test_loaded_by_its_alias_it_answers_as_reported(registered: dict[str, Any]) -> None:
    adapter = load_adapter(registered["model_uri"], tracking_uri=registered["tracking_uri"])
    assert adapter.bundle.id == registered["bundle"]
    assert adapter.bundle.report == registered["report"]
    assert adapter.self_test() == 0.0


def test_the_same_bundle_is_one_version(run: Run, registered: dict[str, Any], client: MlflowClient) -> None:
    again = register(run.run_dir, run.checkpoint("best"), name=NAME, alias="other")
    assert not again["is_new"] and again["version"] == registered["version"]
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    assert int(client.get_model_version_by_alias(NAME, "other").version) == again["version"]
    another = register(run.run_dir, run.checkpoint(2), name="toy-other", num_tasks=2)
    assert another["is_new"] and another["version"] == 1


def test_a_server_that_is_away_is_said_before_anything_is_computed(run: Run, tmp_path: Path) -> None:
    before = sorted((run.run_dir / "bundles").glob("*")) if (run.run_dir / "bundles").exists() else []
    with pytest.raises(TrackingUnavailable) as caught:
        register(run.run_dir, run.checkpoint(2), name=NAME, num_tasks=3, tracking_uri="http://127.0.0.1:9")
    assert caught.value.exit_code == 69
    with pytest.raises(TrackingUnavailable):
        load_adapter(f"models:/{NAME}@candidate", tracking_uri="http://127.0.0.1:9")
    after = sorted((run.run_dir / "bundles").glob("*")) if (run.run_dir / "bundles").exists() else []
    assert before == after


@pytest.mark.parametrize("uri", ["models:/nothing@candidate", f"models:/{NAME}@nothing", "runs:/abc/model"])
def test_a_model_that_is_not_there(registered: dict[str, Any], uri: str) -> None:
    with pytest.raises(DataError, match="has no model"):
        load_adapter(uri, tracking_uri=registered["tracking_uri"])


@pytest.mark.parametrize(
    ("name", "alias"),
    [("a/b", "candidate"), ("a.b", "candidate"), (" ", "c"), (NAME, "latest"), (NAME, "v3"), (NAME, "a b"), (NAME, "")],
)
def test_a_name_or_an_alias_that_mlflow_refuses(run: Run, name: str, alias: str) -> None:
    """Found out before the report is computed."""
    with (
        mock.patch("metadist.registry.publish.build_bundle", side_effect=AssertionError),
        pytest.raises(UsageError, match="refuses"),
    ):
        register(run.run_dir, run.checkpoint("best"), name=name, alias=alias)


def test_a_version_without_its_alias_is_said(run: Run, registered: dict[str, Any], client: MlflowClient) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    again: dict[str, Any] = {"name": NAME, "alias": "late", "num_tasks": 5}
    with (
        mock.patch.object(MlflowClient, "set_registered_model_alias", side_effect=MlflowException("busy")),
        pytest.raises(ServiceAway, match=f"version 2 of {NAME} is registered without the alias late.*busy"),
    ):
        register(run.run_dir, run.checkpoint("best"), **again)
    assert register(run.run_dir, run.checkpoint("best"), **again)["version"] == 2
    assert client.get_model_version_by_alias(NAME, "late").version == "2"
