"""A driver in a process of its own, for ``python -m tests.support.driver SETTINGS RUN_DIR STEP PIPE``.

It trains, and when it has finished STEP it says so through the pipe and waits to be killed, or to be continued by
SIGCONT after a stop. An error of ours ends it with that error's exit code.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from metadist import MetadistError, Observer
from tests.support.quick import SMALL_RUN, train_quickly


def main(settings: str, run_dir: str, stop_at: int, pipe: Path) -> None:
    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == stop_at:
            pipe.write_text(str(step))
            signal.sigwait({signal.SIGCONT})

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})  # in all threads: it is waited for
    try:
        train_quickly(SMALL_RUN, json.loads(settings), Path(run_dir), observer=Observer(on_step=on_step))
    except MetadistError as error:
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
