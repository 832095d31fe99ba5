"""Going on where a run folder stopped: what may differ, what is gone on from, and how a broken promise is told.

Differences that were accepted are kept in ``fingerprint.json`` (``accepted``: step, key, change), since the journal
is cut back to the checkpoint that a resume goes on from; each resume journals them again where they were cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metadist import checkpoint
from metadist.checkpoint import Checkpoint
from metadist.config.fingerprint import CODE
from metadist.errors import ConfigError
from metadist.folder import run_folder
from metadist.launch.canary import sung
from metadist.outer import Outer
from metadist.sources import fitted_digest
from metadist.tracking import Journal
from metadist.worker import Assembly

EVENT = "accepted_difference"
JUDGE = ("objective.", "tasks.", CODE, *(f"evaluation.{key}" for key in (
    "metric", "maximise", "inner_steps", "shots", "queries", "seed", "support", "validation_tasks",
)))  # fmt: skip
"""How the keys begin that a figure on validation depends on, beside the parameters."""
FITTED = ("tasks.transform", "tasks.target_transform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Which differences a resume may go on across.

    Attributes:
        names: Configuration keys, and names of the numerics record.
        numerics: The whole numerics record.
    """

    names: tuple[str, ...] = ()
    numerics: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins.

    Attributes:
        saved: The checkpoint; None at step 0.
        accepted: Every difference that the run ever went on across: ``step``, ``key``, ``change``, oldest first.
        damages: What was wrong with newer checkpoints.
        canary: What every worker's canary must give; None where other numerics were accepted, or nothing is known.
    """

    saved: Checkpoint | None = None
    accepted: tuple[dict[str, Any], ...] = ()
    damages: tuple[str, ...] = ()
    canary: str | None = None

    @property
    def step(self) -> int:
        return self.saved.state.step if self.saved is not None else 0

    @property
    def judged_since(self) -> int:
        """The step up to which checkpoints were judged in another way; -1 where there is none."""
        return max((entry["step"] for entry in self.accepted if entry["key"].startswith(JUDGE)), default=-1)

    def tell(self, journal: Journal) -> None:
        """Journal what was passed over and what was accepted, also what this start cut off; tag the run."""
        for damage in self.damages:
            journal.event("checkpoint_damaged", message=damage)
        for entry in self.accepted:
            if entry["step"] >= self.step:
                journal.event(EVENT, **entry)
        if self.accepted:
            told = [f"{entry['key']}: {entry['change']} (step {entry['step']})" for entry in self.accepted]
            journal.tags({"metadist.accepted": "; ".join(told)})

    def set_aside(self, run_dir: Path, on_message: Callable[[str], None]) -> None:
        """Keep the damaged checkpoints where no later resume meets them."""
        for path in checkpoint.set_aside(run_dir, newer_than=self.step if self.saved else -1):
            on_message(f"the damaged checkpoint is kept as {path}; remove it when you have seen it")


def start_of(
    run_dir: Path,
    parts: Assembly,
    record: Mapping[str, Any],
    accept: Accept,
    on_message: Callable[[str], None],
) -> Start:
    """Where the run in this folder goes on. Nothing is written.

    Raises:
        FingerprintMismatch: other numbers, which are not accepted.
        ConfigError: fewer steps than were reached, or a checkpoint that does not fit what was accepted.
    """
    config = parts.config
    differences = run_folder.check_resume(
        run_dir, config, record, parts.source.fingerprint, accept=accept.names, accept_numerics=accept.numerics
    )
    for name in accept.names:
        if name not in differences:
            on_message(f"--accept {name}: it does not differ, so there was nothing to accept")
    if not any(name in FITTED or name.startswith(CODE) for name in differences):
        run_folder.check_fitted(run_dir, fitted_digest(parts.source))
    damages: list[str] = []
    saved = checkpoint.newest_whole(run_dir, damages.append)
    for damage in damages:
        on_message(damage)
    step = saved.state.step if saved is not None else 0
    if config.outer.num_steps < step:
        raise ConfigError(
            f"outer.num_steps is {config.outer.num_steps}, and {run_dir} has reached step {step}; "
            f"ask for {step} or more, or choose another --run-dir"
        )
    if saved is not None and differences:
        check_fits(saved, parts)
    before = run_folder.read_fingerprint(run_dir).get("accepted", [])
    now = [{"step": step, "key": name, "change": change} for name, change in differences.items()]
    accepted = tuple([{**entry, "step": min(step, entry["step"])} for entry in before] + now)
    canary = sung(run_dir, saved.state.journal_offset) if saved is not None and not accepted else None
    return Start(saved, accepted, tuple(damages), canary)


def check_fits(saved: Checkpoint, parts: Assembly) -> None:
    """Refuse a checkpoint that the accepted configuration cannot go on from.

    Raises:
        ConfigError: its parameters or its optimizer's state have other names or shapes.
    """
    layout = parts.layout
    scratch = Outer(parts.config.outer, layout, np.zeros(layout.size, np.float32))
    scratch.step(np.zeros(layout.size, np.float32))  # an optimizer makes its state at its first step
    wanted = {f"model {name}": list(shape) for name, shape in zip(layout.names, layout.shapes, strict=True)}
    wanted |= {f"optimizer {name}": list(leaf.shape) for name, leaf in scratch.tensors().items()}
    found = {f"model {name}": list(shape) for name, shape in saved.state.layout}
    found |= {f"optimizer {name}": list(leaf.shape) for name, leaf in saved.optimizer.items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        raise ConfigError(
            f"the checkpoint of step {saved.state.step} does not fit this configuration ({odd[0]}: "
            f"{found.get(odd[0])} there, {wanted.get(odd[0])} here); --accept cannot bridge that, "
            "a new --run-dir with --init-from starts from its weights"
        )


def accept_of(names: Collection[str], numerics: bool = False) -> Accept:
    """``["a,b", "c"]`` as names."""
    split = (part.strip() for name in names for part in name.split(","))
    return Accept(names=tuple(dict.fromkeys(part for part in split if part)), numerics=numerics)
