"""The error tree of metadist. Each class carries the exit code that the command line returns for it.

```
MetadistError
+-- UsageError           2   a command was called wrongly
+-- DataError           65   task data cannot be used as asked
|   +-- GateRefused     65   a model's own evidence speaks against registering it
+-- NonFiniteGradient   65   a task gave NaN or infinity; nothing was updated
+-- ServiceAway         69   a cluster or a registry does not answer
+-- SaveFailed          69   the disk did not take a file of the run folder
+-- RunFolderBusy       75   another driver owns the run folder; run again
+-- OwnershipLost       75   another driver took the run folder over; it goes on
+-- TrackingIncomplete  76   the work is done, its tracking is not
+-- ConfigError         78   the configuration cannot be carried out
|   +-- ModelError      78   the model cannot be meta-trained as asked
|   +-- FingerprintMismatch 78   the run folder belongs to another configuration
+-- CheckpointDamaged   65   no whole checkpoint is left
+-- FailedForGood            the run failed before, and would again; it has that failure's code
```
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 70
EXIT_INTERRUPTED = 75
EXIT_TRACKING_INCOMPLETE = 76
EXIT_CTRL_C = 130
MAX_NAMED = 16  # tasks in one message


class MetadistError(Exception):
    """Base of every error that metadist raises on purpose; the message is one line for a person."""

    exit_code: int = EXIT_BUG


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
    """Tasks gave NaN or infinity. Raised before the update, so no parameter has changed.

    Args:
        what: What was not finite, for instance ``"the meta-gradient"``.
        step: Outer step.
        shard: Shard index in the step; None where it is the step as a whole.
        tasks: Keys of the failing tasks.
        own: Configuration keys and paths of the user's own parts, which may have made it.
    """

    exit_code = 65

    def __init__(
        self, what: str, step: int, shard: int | None, tasks: tuple[str, ...], own: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, step, shard, tasks, own)
        self.what, self.step, self.shard, self.tasks, self.own = what, step, shard, tasks, own

    def __str__(self) -> str:
        where = f"step {self.step}" if self.shard is None else f"step {self.step}, shard {self.shard}"
        more = len(self.tasks) - MAX_NAMED
        tasks = ", ".join(self.tasks[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"{self.what} is not finite at {where}, tasks {tasks}; nothing was updated. A smaller "
            "algorithm.inner_lr or outer.lr is the usual cure; outer.on_nonfinite: drop leaves single tasks out"
            + (f". It may also come from code of your own: {', '.join(self.own)}" if self.own else "")
        )


class ServiceAway(MetadistError):
    """A cluster, tracking server or registry does not answer."""

    exit_code = 69


class SaveFailed(MetadistError):
    """The operating system did not take a file: the disk is full, broken, or must not be written.

    Args:
        path: The file or folder.
        reason: What the operating system said.
        begun: Whether anything may have been saved before.
    """

    exit_code = 69

    def __init__(self, path: str, reason: str, begun: bool = True) -> None:
        super().__init__(path, reason, begun)
        self.path, self.reason, self.begun = path, reason, begun

    def __str__(self) -> str:
        if not self.begun:
            return (
                f"the operating system refused {self.path} ({self.reason}), so nothing was begun: choose another "
                "--run-dir, or make room or repair the permissions"
            )
        return (
            f"the operating system refused {self.path} ({self.reason}); what was saved before is whole: make room, or "
            "repair the disk or its permissions, then run again with --resume"
        )


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


class FailedForGood(MetadistError):
    """The run in this folder failed in a way that the same command would meet again.

    Args:
        run_dir: The run folder.
        when: Local time of the failure.
        exit_code: The code with which the run ended, and with which this ends, too.
        error: Type of the error.
        message: First line of its message.
        cure: What to do about it.
    """

    def __init__(self, run_dir: str, when: str, exit_code: int, error: str, message: str, cure: str) -> None:
        super().__init__(run_dir, when, exit_code, error, message, cure)
        self.run_dir, self.when, self.error, self.message, self.cure = run_dir, when, error, message, cure
        self.exit_code = exit_code

    def __str__(self) -> str:
        return (
            f"{self.run_dir} failed for good on {self.when} ({self.error}, exit code {self.exit_code}), so nothing was "
            f"started. It said: {self.message} | First {self.cure}; then --retry instead of --resume goes on. "
            f"{self.run_dir}/failed.json has the whole message"
        )


class FingerprintMismatch(ConfigError):
    """A run folder was made by another configuration, or by another numerics record."""
