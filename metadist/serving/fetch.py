"""A registered model's files, fetched. Imports MLflow, and only when it is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from metadist.errors import DataError, ServiceAway
from metadist.tracking import check_reachable, resolve_tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT_S = 5.0
_FORM = re.compile(r"models:/([^/@]+[@/][^/@]+|m-[^/@]+)|runs:/[^/]+/.+")

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own defaults hold a call for 16 minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def prepare_mlflow() -> None:
    """Short waits and no chatter; what the user has set wins. Call it before MLflow is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def fetched(uri: str, tracking_uri: str | None = None) -> Path:
    """The local folder of the model behind ``models:/...`` or ``runs:/...``.

    Raises:
        ServiceAway: the registry does not answer.
        DataError: it has no such model, or that names none.
    """
    if not _FORM.fullmatch(uri):
        raise DataError(
            f"{uri} names no model: write models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/PATH"
        )
    where = resolve_tracking_uri(tracking_uri)
    check_reachable(where, TIMEOUT_S)
    prepare_mlflow()
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        place = _place(MlflowClient(tracking_uri=where, registry_uri=where), uri)
        return Path(download_artifacts(artifact_uri=place, tracking_uri=where))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise DataError(f"{where} has no model {uri}: {error.message}") from error
        raise ServiceAway(f"{where} failed to deliver {uri}: {error.message}") from error
    except OSError as error:  # a connection that broke, or files that are gone
        raise ServiceAway(f"{where} failed to deliver {uri}: {error}") from error


def _place(client: MlflowClient, uri: str) -> str:
    """Where the files of ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/m-ID`` lie.

    Asked of ``client``, since MLflow's own look-up reads its global tracking URI.
    """
    if not uri.startswith("models:/"):
        return uri
    named = uri.removeprefix("models:/")
    if "@" in named:
        source = client.get_model_version_by_alias(*named.split("@", 1)).source
    elif "/" in named:
        source = client.get_model_version(*named.split("/", 1)).source
    else:
        return str(client.get_logged_model(named).artifact_location)
    is_logged = str(source).startswith("models:/m-")
    return _place(client, str(source)) if is_logged else str(source)
