"""A run's checkpoint as a bundle: weights, configuration, fingerprints, report and self-test."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from metadist import numerics
from metadist.adapter import Adapter
from metadist.checkpoint import Checkpoint
from metadist.config import RunConfig, import_paths
from metadist.config.fingerprint import fingerprint, numbers_of
from metadist.encoder_folder import encoder_folder
from metadist.errors import DataError
from metadist.evaluate import save_report
from metadist.folder import run_folder
from metadist.parameters import named_leaves
from metadist.registry.code import served_code
from metadist.registry.report import check_one_query, served_report
from metadist.serving.bundle import (
    ENCODER,
    FROZEN,
    SELF_TEST,
    TRANSFORMS,
    WEIGHTS,
    Bundle,
    published,
    read_bundle,
    write_facts,
)
from metadist.serving.inputs import RawColumn
from metadist.serving.user_code import pack_code
from metadist.sources import ParquetSource, build_source, fitted_digest, fitted_of
from metadist.tasks import TaskSource
from metadist.version import __version__

SPLIT = "test"


def build_bundle(
    run_dir: str | Path,
    saved: Checkpoint,
    *,
    num_tasks: int | None = None,
    allow_transductive: bool = False,
    on_message: Callable[[str], None] = lambda message: None,
    on_task: Callable[[int, int], None] = lambda done, total: None,
) -> Bundle:
    """The bundle of a checkpoint, in ``RUN_DIR/bundles``; one that was made before from the same is read again.

    Args:
        run_dir: The run folder.
        saved: Which of its checkpoints.
        num_tasks: Fixed test tasks of its report; ``evaluation.num_tasks`` by default.
        allow_transductive: Also accept a model that is worse one query at a time.
        on_message: Hears a line for people.
        on_task: Hears (tasks done, tasks in all).

    Raises:
        GateRefused: the report speaks against the model.
        DataError: the folder holds no run, or its store has no test split.
    """
    folder = Path(run_dir).absolute()
    config, stored = run_folder.read_config(folder), run_folder.read_fingerprint(folder)
    changed = run_folder.changed_code(folder, config)
    if changed:
        raise DataError(
            f"{', '.join(changed)} changed since {folder} was trained, so the source would not be that of the weights; "
            "put the old source back, or train again"
        )
    count = num_tasks or config.evaluation.num_tasks
    numerics.pin(config.engine.threads)
    record = numerics.record("cpu", config.engine.threads)
    made_from = {
        "params": saved.state.params_sha256,
        "step": saved.state.step,
        "numbers": fingerprint(numbers_of(config)),
        "store": stored["data"],
        "numerics": record,
        "num_tasks": count,
        "code": served_code().digest,
    }
    final = folder / "bundles" / hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    if final.is_dir():
        on_message(f"this model was bundled before: {final}")
        return _gated(read_bundle(final), allow_transductive)
    source = build_source(config, stored["location"])
    source.check(SPLIT, fixed=True)
    if source.fingerprint != stored["data"]:
        raise DataError(
            f"{stored['location']} is not the store of this run: its fingerprint is {source.fingerprint[:12]}, the "
            f"run was trained on {stored['data'][:12]}"
        )
    run_folder.check_fitted(folder, fitted_digest(source))
    with published(final) as draft:
        facts = _facts(config, stored, saved, source, record)
        _write_weights(draft, folder, saved)
        _pack_encoder(draft, config)
        fitted = fitted_of(source)
        if fitted:
            np.savez(draft / TRANSFORMS, allow_pickle=False, **fitted)
        own = import_paths(config, served=True)
        if own:
            facts["user_code"] = pack_code(own, draft)
        adapter = Adapter(Bundle(draft, facts, config))
        report, self_test = served_report(
            adapter,
            source,
            split=SPLIT,
            num_tasks=count,
            facts=_report_facts(config, source),
            on_task=lambda done: on_task(done, count),
        )
        save_report(report, draft)
        np.savez(draft / SELF_TEST, allow_pickle=False, **self_test)
        write_facts(draft, facts)
    return _gated(read_bundle(final), allow_transductive)


def _gated(bundle: Bundle, allow_transductive: bool) -> Bundle:
    """A bundle that is refused stays in the run folder: its report is the evidence, and is not computed twice."""
    if not allow_transductive:
        check_one_query(bundle.report)
    return bundle


def _facts(
    config: RunConfig, stored: dict[str, Any], saved: Checkpoint, source: TaskSource, record: dict[str, Any]
) -> dict[str, Any]:
    column, target = _columns(source)
    return {
        "metadist_version": __version__,
        "config": {
            **run_folder.readable(config).model_dump(mode="json"),
            "code_path": [],
            "working_dir": None,
        },  # the source travels; where it lay does not
        "task": asdict(source.spec),
        "input": column.to_json(),
        "target": None if target is None else target.to_json(),
        "inner_steps": config.evaluation.inner_steps,
        "step": saved.state.step,
        "params_sha256": saved.state.params_sha256,
        "leaves": list(named_leaves(saved.meta)),
        "fingerprints": {
            "config": fingerprint(numbers_of(config)),
            "store": stored["data"],
            "numerics": record,
            "code": served_code().digest,
            **({"transforms": fitted_digest(source)} if fitted_digest(source) else {}),
        },
    }


def _columns(source: TaskSource) -> tuple[RawColumn, RawColumn | None]:
    """The raw input column and, for a regression, the target column."""
    if not isinstance(source, ParquetSource):  # what it generates is raw as it is
        spec = source.spec
        y = RawColumn(name="y", dtype="float32", shape=() if spec.outputs == 1 else (spec.outputs,))
        return RawColumn(name="x", dtype="float32", shape=spec.input_shape), y if spec.kind == "regression" else None
    columns = source.store.columns
    raw = [
        None
        if name is None
        else RawColumn(name=name, dtype=columns[name].dtype, shape=columns[name].shape, fields=columns[name].fields)
        for name in source.columns
    ]
    assert raw[0] is not None
    return raw[0], raw[1] if source.spec.kind == "regression" else None


def _report_facts(config: RunConfig, source: TaskSource) -> dict[str, Any]:
    ways = {"ways": source.spec.outputs} if source.spec.kind == "classes" else {}
    sizes = {"shots": source.fixed_spec.shots, "queries": source.fixed_spec.queries}
    return {**ways, **sizes, "normalisation": config.algorithm.normalisation, "computed": "as served"}


def _pack_encoder(draft: Path, config: RunConfig) -> None:
    if config.model.name == "encoder":
        (draft / ENCODER).mkdir()
        folder = encoder_folder(config.model.options["path"])
        shutil.copyfile(folder / "config.json", draft / ENCODER / "config.json")


def _write_weights(draft: Path, run_dir: Path, saved: Checkpoint) -> None:
    save_file({name: leaf.contiguous() for name, leaf in named_leaves(saved.meta).items()}, draft / WEIGHTS)
    frozen = run_dir / FROZEN
    if frozen.exists():
        shutil.copyfile(frozen, draft / FROZEN)
