"""Reports in a run folder: what an evaluation may set, what its figures depend on, and the name that follows.

``evaluation/SPLIT-STEP`` is the run's own evaluation; other settings are named behind it: ``test-000200_shots_5``.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metadist.config import RunConfig
from metadist.config.fingerprint import flat
from metadist.config.sections import EvaluationConfig
from metadist.errors import UsageError

CHANGEABLE = ("cluster", "engine", "evaluation", "code_path", "working_dir", "tasks.ways", "tasks.within")


def refuse_other_settings(names: Iterable[str], config: RunConfig) -> None:
    """Refuse to judge a run under settings that make another model of it, or that an evaluation does not read.

    Raises:
        UsageError: says what may be set.
    """
    for name in names:
        if _is_changeable(name):
            continue
        meant = f"evaluation.{name.rpartition('.')[2]}"
        known = [key for key in flat(config) if _is_changeable(key)]
        is_there = meant.removeprefix("evaluation.") in EvaluationConfig.model_fields
        close = [meant] if is_there else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"--set {name}: an evaluation may change where and on what a run is judged ({', '.join(CHANGEABLE)}), not "
            f"what was trained{hint}"
        )


def settings_of(config: RunConfig, num_tasks: int | None = None) -> dict[str, Any]:
    """What the figures of an evaluation depend on beside the model and its data, resolved, by short names.

    Args:
        config: The run's configuration, or as it is judged.
        num_tasks: Tasks of the split; ``evaluation.num_tasks`` by default.
    """
    tasks, judged = config.tasks, config.evaluation
    found: dict[str, Any] = {
        "num_tasks": num_tasks or judged.num_tasks,
        "inner_steps": judged.inner_steps,
        "ways": tasks.ways,
        "within": tasks.within,
        "queries": judged.queries,
        "seed": judged.seed,
        "metric": judged.metric,
    }
    shots = tasks.most_shots if judged.shots is None else judged.shots
    if tasks.kind != "groups":
        return {**found, "shots": shots}
    # Support sets of every size are taken from as many rows as the largest has.
    return {**found, "support": shots, "of": max(tasks.most_shots, shots, *judged.support)}


def suffix_of(settings: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """What distinguishes an evaluation from the run's own; empty where nothing does.

    >>> suffix_of({"num_tasks": 40, "ways": 5}, {"num_tasks": 600, "ways": 5})
    '_num_tasks_40'
    """
    return "".join(f"_{name}_{_spelled(value)}" for name, value in settings.items() if value != own[name])


def report_folder(run_dir: Path, split: str, step: int, suffix: str = "") -> Path:
    """Where the report of a checkpoint on ``split`` lies."""
    return run_dir / "evaluation" / f"{split}-{step:06d}{suffix}"


def _is_changeable(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in CHANGEABLE)


def _spelled(value: Any) -> str:
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9._-]{1,24}", text)
    return text if plain else hashlib.sha256(text.encode()).hexdigest()[:8]
