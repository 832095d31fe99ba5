"""``metadist describe``: where a run or a model comes from, how good it is, and how to serve it."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from metadist.commands.output import emit, figure, guarded
from metadist.commands.register import alone
from metadist.commands.train import AsJson

PORT = 5001


def describe(
    target: Annotated[str, typer.Argument(help="A run folder, a bundle folder, or models:/NAME@ALIAS.")],
    json: AsJson = False,
) -> None:
    """Lineage, figures, and how to serve it."""
    with guarded():
        from metadist.folder.run_folder import is_used

        result = _run(Path(target)) if is_used(Path(target)) else _model(target)
        emit(result, as_json=json, lines=lambda: _lines(result))


def _run(folder: Path) -> dict[str, Any]:
    from metadist import checkpoint
    from metadist.config.fingerprint import fingerprint, flat
    from metadist.folder import run_folder

    config, stored = run_folder.read_config(folder), run_folder.read_fingerprint(folder)
    reports = {path.parent.name: path for path in sorted((folder / "evaluation").glob("*/report.json"))}
    return {
        "kind": "run",
        "run_dir": str(folder.absolute()),
        "metadist_version": stored.get("version"),
        "fingerprints": {
            "config": fingerprint(stored["numbers"]),
            "store": stored["data"],
            "numerics": stored["numerics"],
        },
        "store": stored.get("location"),
        "checkpoints": checkpoint.steps(folder),
        "config": flat(config),
        "reports": {name: jsonlib.loads(path.read_text()) for name, path in reports.items()},
        "bundles": [str(path.parent) for path in sorted(folder.glob("bundles/*/bundle.json"))],
        "next": f"metadist register {folder} --name NAME",
    }


def _model(uri: str) -> dict[str, Any]:
    from metadist.adapter import is_model, load_bundle
    from metadist.config.fingerprint import flat
    from metadist.errors import DataError

    if not is_model(uri):
        what = "holds neither a run nor a model" if Path(uri).exists() else "is neither a run folder nor a model"
        raise DataError(f"{uri} {what}: name a run folder, a bundle folder, or a registered model models:/NAME@ALIAS")
    bundle = load_bundle(uri)
    return {
        "kind": "model",
        "uri": uri,
        "bundle": bundle.id,
        "metadist_version": bundle.facts["metadist_version"],
        "checkpoint": bundle.facts["step"],
        "params_sha256": bundle.facts["params_sha256"],
        "fingerprints": bundle.facts["fingerprints"],
        "task": bundle.facts["task"],
        "input": bundle.facts["input"],
        "target": bundle.facts["target"],
        "inner_steps": bundle.facts["inner_steps"],
        "config": flat(bundle.config),
        "reports": {"served": bundle.report},
        "serve": _serve(uri),
        "request": _request(bundle),
        "curl": (f"curl -s http://127.0.0.1:{PORT}/invocations -H 'Content-Type: application/json' -d @request.json"),
    }


def _serve(uri: str) -> str:
    from metadist.tracking import resolve_tracking_uri

    if not uri.startswith(("models:/", "runs:/")):
        return "register it first: only a registered model is served"
    where = resolve_tracking_uri(None)
    return f"MLFLOW_TRACKING_URI={where} mlflow models serve -m {uri} --env-manager local --port {PORT}"


def _request(bundle: Any) -> dict[str, Any]:
    """A body that the served model answers: the first task of its self-test."""
    import numpy as np

    from metadist.serving.bundle import SELF_TEST

    with np.load(bundle.folder / SELF_TEST, allow_pickle=False) as tasks:
        support_y = tasks["support_y"][0]
        target = bundle.target
        labels = support_y.tolist() if target is None else support_y.reshape(-1, *target.shape).tolist()
        inputs = {
            "support_x": tasks["support_x"][0].tolist(),
            "support_y": labels,
            "query_x": tasks["query_x"][0].tolist(),
        }
    return {"inputs": inputs, "params": {"inner_steps": bundle.facts["inner_steps"]}}


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    prints = result["fingerprints"]
    yield f"{result['kind']:<11}{result.get('uri') or result['run_dir']} (metadist {result['metadist_version']})"
    if result["kind"] == "model":
        params = result["params_sha256"][:16]
        yield f"bundle     {result['bundle'][:16]}, checkpoint {result['checkpoint']}, params {params}"
    else:
        yield f"steps      checkpoints {', '.join(map(str, result['checkpoints'])) or 'none'}"
    yield f"made from  configuration {prints['config'][:12]}, store {prints['store'][:12]}"
    yield f"numerics   {', '.join(f'{key} {value}' for key, value in prints['numerics'].items())}"
    for name, report in result["reports"].items():
        yield f"{name:<11}{_report(report)}"
    if result["kind"] == "run":
        yield f"next       {result['next']}"
        return
    column = result["input"]
    yield f"takes      {column['name']}: raw {column['dtype']} of shape {tuple(column['shape'])}, as it is stored"
    yield f"serve      {result['serve']}"
    yield f"ask        metadist describe {result['uri']} --json | jq .request > request.json"
    yield f"           {result['curl']}"


def _report(report: Mapping[str, Any]) -> str:
    metric = next(iter(report["one_query_at_a_time"]))
    steps, figures = next(reversed(report["by_inner_steps"].items()))
    what = f"{report['num_tasks']} {report['split']} tasks, {report['normalisation']}"
    return f"{figure(metric, figures)} after {steps} inner steps, {alone(report)} ({what})"
