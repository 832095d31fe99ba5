"""The error tree of metadist. Each class carries the exit code that the command line returns for it.

```
MetadistError
+-- UsageError           2   a command was called wrongly
+-- DataError           65   task data cannot be used as asked
|   +-- GateRefused     65   a model's own evidence speaks against registering it
+-- NonFiniteGradient   65   a task gave NaN or infinity; nothing was updated
+-- ServiceAway         69   a cluster or a registry does not answer
+-- DiskRefused         69   the disk does not take what the run must keep
+-- RunFolderBusy       75   another driver owns the run folder; run again
+-- OwnershipLost       75   another driver took the run folder over; it goes on
+-- TrackingIncomplete  76   the work is done, its tracking is not
+-- ConfigError         78   the configuration cannot be carried out
|   +-- ModelError      78   the model cannot be meta-trained as asked
|   +-- FingerprintMismatch 78   the run folder belongs to another configuration
+-- CheckpointDamaged   65   no whole checkpoint is left
```
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_BUG = 70
EXIT_INTERRUPTED = 75
EXIT_TRACKING_INCOMPLETE = 76
EXIT_CTRL_C = 130


class MetadistError(Exception):
    """Base of every error that metadist raises on purpose; the message is one line for a person."""

    exit_code: ClassVar[int] = EXIT_BUG


class UsageError(MetadistError):
    """A command or function was called in a way that cannot be carried out."""

    exit_code = 2


class DataError(MetadistError):
    """The task data cannot be used as asked."""

    exit_code = 65


class GateRefused(DataError):
    """A model was not registered or promoted because its own evaluation speaks against it."""


class CheckpointDamaged(DataError):
    """No whole checkpoint could be read from the run folder."""


class NonFiniteGradient(MetadistError):
    """A shard's tasks gave NaN or infinity. Raised before the update, so no parameter has changed.

    Args:
        what: What was not finite, for instance ``"the meta-gradient"``.
        step: Outer step.
        shard: Shard index in the step.
        tasks: Keys of the failing tasks.
    """

    exit_code = 65

    def __init__(self, what: str, step: int, shard: int, tasks: tuple[str, ...]) -> None:
        super().__init__(what, step, shard, tasks)
        self.what, self.step, self.shard, self.tasks = what, step, shard, tasks

    def __str__(self) -> str:
        return (
            f"{self.what} is not finite at step {self.step}, shard {self.shard}, "
            f"tasks {', '.join(self.tasks)}; nothing was updated. "
            "A smaller algorithm.inner_lr or outer.lr is the usual cure."
        )


class ServiceAway(MetadistError):
    """A cluster, tracking server or registry does not answer."""

    exit_code = 69


class DiskRefused(MetadistError):
    """The disk is full, read-only or broken; what was written before is whole."""

    exit_code = 69


class RunFolderBusy(MetadistError):
    """Another living driver owns the run folder."""

    exit_code = EXIT_INTERRUPTED


class OwnershipLost(MetadistError):
    """Another driver took the run folder over while this one did not answer."""

    exit_code = EXIT_INTERRUPTED


class TrackingIncomplete(MetadistError):
    """The work is done and whole, but its tracking events have not all been delivered."""

    exit_code = EXIT_TRACKING_INCOMPLETE


class ConfigError(MetadistError):
    """The configuration names something unknown, is out of range, or contradicts itself."""

    exit_code = 78


class ModelError(ConfigError):
    """The model cannot be built, or cannot be meta-trained as asked."""


class FingerprintMismatch(ConfigError):
    """A run folder was made by another configuration, or by another numerics record."""
