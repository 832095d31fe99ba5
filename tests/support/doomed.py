"""Workers that die in the middle of a shard, for a run on Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metadist.tasks import Shard
from metadist.worker import ShardFactory


@dataclass(frozen=True)
class Doomed:
    """Builds what ``factory`` builds, but the first worker that has computed half of a doomed shard is killed.

    Attributes:
        factory: The run's own.
        folder: Where each death leaves a mark, so that it happens once.
        shards: (step, shard index) of training shards.
    """

    factory: ShardFactory
    folder: str
    shards: tuple[tuple[int, int], ...]

    @property
    def device(self) -> str:
        return self.factory.device

    @property
    def parcel(self) -> Mapping[str, bytes]:
        return self.factory.parcel

    def __call__(self) -> Callable[..., Any]:
        work = self.factory()

        def run(version: int, flat: Any, shard: Shard) -> Any:
            result = work(version, flat, shard)  # computed, but not yet answered
            if shard.kind == "train" and (shard.step, shard.index) in self.shards:
                try:
                    os.close(os.open(Path(self.folder) / f"{shard.step}-{shard.index}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return result
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run
