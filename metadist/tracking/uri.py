"""Where tracking goes, and whether it answers at the start. No MLflow import for a server or for sqlite."""

from __future__ import annotations

import difflib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from metadist.tracking.errors import TrackingDenied, TrackingUnavailable, TrackingUriRefused
from metadist.tracking.state import load_run

_SQLITE = "sqlite:///"
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def tracking_uri_of(
    run_dir: Path, config_uri: str | None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Where a run is tracked: what the configuration names, else what the run folder knows, else as
    `resolve_tracking_uri` says. A relative path stays the file that it was at first, whatever the directory now.

    Raises:
        TrackingUriRefused: MLflow cannot use it.
    """
    known = load_run(run_dir)
    if known is not None and (not config_uri or _is_relative_of(config_uri, known.uri)):
        return known.uri
    return resolve_tracking_uri(config_uri, environ=environ, cwd=cwd)


def _is_relative_of(uri: str, known: str) -> bool:
    path, file = sqlite_path(uri), sqlite_path(known)
    if path is None or file is None or path.is_absolute() or not path.parts:
        return False
    return file.parts[-len(path.parts) :] == path.parts


def resolve_tracking_uri(
    config_uri: str | None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """The URI of a run: ``tracking.uri``, else MLFLOW_TRACKING_URI, else sqlite in the working directory.

    A relative sqlite path is made absolute, so that the run folder can keep it.

    Raises:
        TrackingUriRefused: A plain path or ``file:``, which MLflow no longer writes to, or a scheme that it does not
            have.

    >>> resolve_tracking_uri(None, environ={}, cwd=Path("/data"))
    'sqlite:////data/mlflow.db'
    >>> resolve_tracking_uri("http://mlflow:5000", environ={})
    'http://mlflow:5000'
    """
    folder = Path.cwd() if cwd is None else cwd
    environment = os.environ if environ is None else environ
    uri = config_uri or environment.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{folder / 'mlflow.db'}"
    if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
        raise TrackingUriRefused(
            uri,
            "MLflow no longer writes to folders; use sqlite:///mlflow.db or the http:// address of a server",
        )
    _check_scheme(uri)
    if uri.startswith(_SQLITE):
        path = uri[len(_SQLITE) :]
        if not path:
            raise TrackingUriRefused(uri, "it names no file; write sqlite:///mlflow.db")
        return f"{_SQLITE}{folder / path}"
    return uri


def _check_scheme(uri: str) -> None:
    """Refuse a scheme that neither MLflow nor an installed plugin of it has. ``postgresql+psycopg2`` is postgresql."""
    scheme = uri.partition("://")[0].partition("+")[0]
    known = (*_SCHEMES, *(entry.name for entry in entry_points(group="mlflow.tracking_store")))
    if scheme not in known:
        close = difflib.get_close_matches(scheme, known, n=1)
        hint = f"did you mean {close[0]}://? " if close else ""
        raise TrackingUriRefused(uri, f"MLflow has no scheme {scheme!r}; {hint}it has {', '.join(known)}")


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite URI, None for any other URI."""
    return Path(uri[len(_SQLITE) :]) if uri.startswith(_SQLITE) else None


def check_reachable(uri: str, timeout: float) -> None:
    """Raise unless tracking answers now; for the start of a run under ``tracking.required``.

    A server is asked for ``/health``; of sqlite the folder must be writable. Other URIs (a database server, a
    managed service) are not asked: their mirror reports what it meets.

    Args:
        uri: A resolved tracking URI.
        timeout: Seconds that the server may take.

    Raises:
        TrackingUnavailable: It is away or hangs, with the reason; `TrackingDenied` where it turns us away.
    """
    database = sqlite_path(uri)
    if database is not None:
        existing = database if database.exists() else database.parent
        if not os.access(existing, os.W_OK):
            raise TrackingUnavailable(uri, f"{existing} does not exist or is not writable")
        return
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:  # a proxy that does not pass /health on: something answers
            return
        kind = TrackingDenied if error.code in (401, 403) else TrackingUnavailable
        raise kind(uri, f"HTTP {error.code}") from None
    except (OSError, ValueError) as error:  # refused, unknown host, timed out, not a URL
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise TrackingUnavailable(uri, str(reason) or type(reason).__name__) from None
