"""The only place of tracking that talks to MLflow: a few calls, each of which may be repeated without harm.

MLflow is imported when a client is made (it takes over a second), never before. `MlflowClient` takes its URI
as an argument, so no global state of MLflow is touched. A refusal that will never change is an
`EventRefused`, credentials that do not suffice are `TrackingDenied`; whatever else is raised may pass, and is
tried again by the mirror.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metadist.tracking.errors import EventRefused, TrackingDenied
from metadist.tracking.plan import MetricRow, safe_name
from metadist.tracking.state import MirrorRun
from metadist.tracking.uri import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

TOKEN_TAG = "metadist.run_token"
_MAX_ENTRIES = 100  # params or tags a call
_MAX_DIGEST = 36
_MAX_REASON = 300
_DENIALS = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the mirror tries again by itself, and must be able to stop
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; MLflow's own defaults hold a call for 16 minutes
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class TrackingClient(Protocol):
    """What the mirror needs of a tracking server. Every call may be repeated."""

    def ensure_run(self, run: MirrorRun, start_time: int) -> str:
        """The id of the run: the one kept, or the one that carries the token, or a new one."""

    def log_metrics(self, run_id: str, rows: Sequence[MetricRow]) -> None:
        """At most 1000 rows."""

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Params; one that MLflow has with another value becomes the tag ``changed.NAME``."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tags, replacing those of the same name."""

    def log_dataset(self, run_id: str, *, name: str, digest: str, source: str, context: str) -> None:
        """A dataset input."""

    def log_artifact(self, run_id: str, path: Path, folder: str) -> None:
        """A file, or all files of a directory."""

    def set_status(self, run_id: str, status: str, time: int) -> None:
        """RUNNING, or an end with its time."""


ClientFactory = Callable[[str], TrackingClient]


def make_client(uri: str) -> TrackingClient:
    """A client of a real MLflow. What the user has set in the environment wins over our defaults."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return _MlflowTracking(MlflowClient(tracking_uri=uri), uri)


class _MlflowTracking:
    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client = client
        self._uri = uri
        self._database = sqlite_path(uri)

    def ensure_run(self, run: MirrorRun, start_time: int) -> str:
        if run.run_id:
            return run.run_id
        with self._refusals():
            return self._find_or_make(run, start_time)

    def _find_or_make(self, run: MirrorRun, start_time: int) -> str:
        experiment = self._experiment_id(run.experiment)
        found = self._client.search_runs([experiment], f"tags.`{TOKEN_TAG}` = '{run.token}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {TOKEN_TAG: run.token, "mlflow.source.name": "metadist", "mlflow.source.type": "LOCAL"}
        made = self._client.create_run(experiment, start_time=start_time, tags=tags, run_name=run.run_name)
        return str(made.info.run_id)

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            # Beside the database, not in whatever directory this process happens to be in.
            location = None if self._database is None else (self._database.parent / "mlruns").as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)  # another run made it in between
        if found is None:
            raise LookupError(f"the experiment {name!r} exists and cannot be read")
        return str(found.experiment_id)

    def log_metrics(self, run_id: str, rows: Sequence[MetricRow]) -> None:
        from mlflow.entities import Metric

        with self._refusals():
            self._client.log_batch(run_id, metrics=[Metric(*row) for row in rows])

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for part in _parts(params):
            try:
                with self._refusals():
                    self._client.log_batch(run_id, params=[Param(*item) for item in part.items()])
            except EventRefused:
                # MLflow never changes a param: a resumed run that may (more steps) says so in a tag.
                known = self._client.get_run(run_id).data.params
                new = {name: value for name, value in part.items() if name not in known}
                changed = {name: value for name, value in part.items() if known.get(name, value) != value}
                if not changed:
                    raise
                with self._refusals():
                    self._client.log_batch(run_id, params=[Param(*item) for item in new.items()])
                self.set_tags(run_id, {f"changed.{name}": value for name, value in changed.items()})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for part in _parts({safe_name(name): value for name, value in tags.items()}):
            with self._refusals():
                self._client.log_batch(run_id, tags=[RunTag(*item) for item in part.items()])

    def log_dataset(self, run_id: str, *, name: str, digest: str, source: str, context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest[:_MAX_DIGEST], source_type="metadist", source=source)
        with self._refusals():
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_artifact(self, run_id: str, path: Path, folder: str) -> None:
        if not path.exists():
            raise EventRefused(f"the artifact {path} is no longer there")
        with self._refusals():
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), folder or None)
            else:
                self._client.log_artifact(run_id, str(path), folder or None)

    def set_status(self, run_id: str, status: str, time: int) -> None:
        with self._refusals():
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, time)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn MLflow's final answers into `EventRefused` and `TrackingDenied`; let everything else through."""
        from mlflow.exceptions import MlflowException
        from requests import HTTPError

        try:
            yield
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise EventRefused(str(error)) from error
            if error.error_code in _DENIALS:
                raise TrackingDenied(self._uri, one_line(error)) from error
            raise
        except HTTPError as error:  # artifacts are sent past MLflow's own errors
            if error.response is not None and error.response.status_code in (401, 403):
                raise TrackingDenied(self._uri, one_line(error)) from error
            raise


def one_line(error: Exception) -> str:
    """An error of somebody else's as the reason in a message of ours: its first line, at most 300 characters."""
    return (str(error) or type(error).__name__).splitlines()[0][:_MAX_REASON]


def _parts(entries: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    items = list(entries.items())
    for start in range(0, len(items), _MAX_ENTRIES):
        yield dict(items[start : start + _MAX_ENTRIES])
