"""What the numbers of a run depend on, as flat keys, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from metadist.config.presets import OWN
from metadist.config.run import RunConfig, import_paths
from metadist.own.code import search_in
from metadist.own.source import hashes_of

# Sections that cannot change a number: another value never stands in the way of a resume.
OUTSIDE_FINGERPRINT = ("cluster", "checkpoint", "tracking", "description", "code_path", "working_dir")
CODE = "code."  # keys of source files: code.my_package/net.py


def flat(config: RunConfig) -> dict[str, Any]:
    """Dotted keys and plain values."""
    return dict(_walk(config.model_dump(mode="json"), ""))


def numbers_of(config: RunConfig) -> dict[str, Any]:
    """The keys that the numbers of a run depend on. ``outer.num_steps`` counts only where something reads it, and
    checks of the run (``evaluation``) count, since they choose the best checkpoint. So does every source file of the
    user's own parts, as ``code.FILE``: its SHA-256.

    Raises:
        ConfigError: a part of the user's own is not found.
    """
    keep = {key: value for key, value in flat(config).items() if key.split(".")[0] not in OUTSIDE_FINGERPRINT}
    keep.pop("engine.device")  # the device that was found is in the numerics record
    if not _counts_its_length(config):
        keep.pop("outer.num_steps")
    return {**keep, **code_of(config)}


def _counts_its_length(config: RunConfig) -> bool:
    """Whether a step's numbers depend on how many steps there are in all: by the outer rate, or by the share of the run
    that is over (``Context.progress``), which an algorithm of the user's own may read as well."""
    algorithm = config.algorithm
    by_progress = algorithm.multi_step > 0 or algorithm.second_order_from > 0 or algorithm.family == OWN
    return by_progress or config.outer.schedule.name not in ("none", "step")


def code_of(config: RunConfig) -> dict[str, str]:
    """``code.FILE`` -> SHA-256 of every source file of the user's own parts; empty where there are none."""
    search_in(config.code_path)
    return {CODE + name: digest for name, digest in hashes_of(import_paths(config)).items()}


def fingerprint(numbers: Mapping[str, Any]) -> str:
    """Hash of a flat mapping of settings."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True, default=str).encode()).hexdigest()


def _walk(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _walk(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree
