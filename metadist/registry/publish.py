"""Logging a bundle to the run's MLflow run, and a version of it in the registry. Repeating it changes nothing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.checkpoint import Checkpoint
from metadist.errors import ServiceAway, UsageError
from metadist.folder.run_folder import read_config
from metadist.registry.build import build_bundle
from metadist.serving.bundle import Bundle
from metadist.serving.fetch import TIMEOUT_S, prepare_mlflow
from metadist.tracking import check_reachable, sync, tracking_uri_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE_TAG = "metadist.bundle"


def register(
    run_dir: str | Path,
    saved: Checkpoint,
    *,
    name: str,
    alias: str = "candidate",
    tracking_uri: str | None = None,
    num_tasks: int | None = None,
    allow_transductive: bool = False,
    on_message: Callable[[str], None] = lambda message: None,
    on_task: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Register a checkpoint of a run as a version of ``name``; the same bundle again gives the version it has.

    Args:
        run_dir: The run folder.
        saved: Which of its checkpoints.
        name: The registered model; made where there is none.
        alias: Points at the version afterwards.
        tracking_uri: Where to; by default where the run is mirrored.
        num_tasks, allow_transductive, on_message, on_task: see `build_bundle`.

    Returns:
        What ``metadist register --json`` prints.

    Raises:
        UsageError: MLflow refuses the name or the alias; found out before anything is computed, as is the next.
        ServiceAway: MLflow does not answer.
        GateRefused: the model's own report speaks against it.
    """
    check_names(name, alias)
    folder = Path(run_dir).absolute()
    settings = read_config(folder).tracking
    uri = tracking_uri_of(folder, tracking_uri or settings.uri)
    check_reachable(uri, TIMEOUT_S)
    bundle = build_bundle(
        folder,
        saved,
        num_tasks=num_tasks,
        allow_transductive=allow_transductive,
        on_message=on_message,
        on_task=on_task,
    )
    prepare_mlflow()
    with _told(uri):
        run_id = sync(folder, uri=uri, experiment=settings.experiment).run_id
        version, is_new = _version(uri, name, bundle, run_id)
    with _told(
        uri, f"version {version} of {name} is registered without the alias {alias}, which the same command sets"
    ):
        _client(uri).set_registered_model_alias(name, alias, version)
    return {
        "name": name,
        "version": int(version),
        "alias": alias,
        "model_uri": f"models:/{name}@{alias}",
        "is_new": is_new,
        "bundle": bundle.id,
        "bundle_dir": str(bundle.folder),
        "tracking_uri": uri,
        "run_id": run_id,
        "checkpoint": saved.state.step,
        "params_sha256": saved.state.params_sha256,
        "report": bundle.report,
    }


def check_names(name: str, alias: str) -> None:
    """Refuse a name or an alias that MLflow would refuse, without asking it.

    Raises:
        UsageError: says what may be in it.
    """
    if not name.strip() or any(sign in name for sign in "/:.%\"'"):
        raise UsageError(f"MLflow refuses the name {name!r} of a model: it is not empty and has none of / : . % \" '")
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise UsageError(
            f"MLflow refuses the alias {alias!r}: letters, digits, _ and - are allowed, latest and v1, v2, ... are not"
        )


def _version(uri: str, name: str, bundle: Bundle, run_id: str) -> tuple[str, bool]:
    """The version that holds the bundle, and whether it was made now."""
    client = _client(uri)
    kept = client.search_model_versions(f"name = '{name}' and tags.`{BUNDLE_TAG}` = '{bundle.id}'")
    if kept:
        return str(kept[0].version), False
    model_id = _logged(client, name, bundle, run_id)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(
        name, source=f"models:/{model_id}", run_id=run_id, tags=_tags(bundle), model_id=model_id
    )
    return str(made.version), True


def _logged(client: MlflowClient, name: str, bundle: Bundle, run_id: str) -> str:
    """Log the model to the run; it is ready only when every file has arrived."""
    from mlflow.entities import LoggedModelOutput

    from metadist.registry.flavour import save_model

    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=_tags(bundle))
    with tempfile.TemporaryDirectory(prefix="metadist-model-") as folder:
        client.log_model_artifacts(model.model_id, str(save_model(bundle, Path(folder))))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=int(bundle.facts["step"]))])
    return str(model.model_id)


def _tags(bundle: Bundle) -> dict[str, str]:
    facts, report = bundle.facts, bundle.report
    prints = facts["fingerprints"]
    return {
        BUNDLE_TAG: bundle.id,
        "metadist.version": facts["metadist_version"],
        "metadist.step": str(facts["step"]),
        "metadist.params_sha256": facts["params_sha256"],
        "metadist.config": prints["config"],
        "metadist.store": prints["store"],
        "metadist.code": prints["code"],
        "metadist.task_set": report["task_set"],
        **{f"numerics.{key}": str(value) for key, value in prints["numerics"].items()},
    }


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _told(uri: str, before: str = "") -> Iterator[None]:
    """MLflow's errors in our words and exit codes; ``before`` is what was done when they came."""
    from mlflow.exceptions import MlflowException

    done = f"{before}: " if before else ""
    try:
        yield
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise UsageError(f"{done}MLflow at {uri} refuses: {error.message}") from error
        raise ServiceAway(f"{done}MLflow at {uri} failed: {error.message}") from error
    except OSError as error:
        raise ServiceAway(f"{done}MLflow at {uri} failed: {error}") from error
