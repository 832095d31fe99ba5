"""What the driver and its machine are doing, as metrics ``system/...``. Standard library only, no thread.

The training loop calls `SystemMetrics.sample` as often as it likes; a sample is taken when the interval is
over. Figures that the operating system does not offer (memory outside Linux) are left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")


class SystemMetrics:
    """A sampler of the driver; CPU use is that between two samples.

    Args:
        interval_s: Least time between samples, in seconds.
        clock: Seconds, monotonic; tests give their own.
    """

    def __init__(self, interval_s: float = 10.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._last_s = clock()
        self._last_cpu_s = _cpu_seconds()

    def sample(self) -> dict[str, float] | None:
        """The metrics if the interval is over, else None.

        Returns:
            ``system/driver_cpu_percent`` (100 is one core), ``system/driver_memory_mb`` (resident),
            ``system/host_memory_percent`` (in use), ``system/host_load_1m`` (runnable processes).
        """
        now_s = self._clock()
        elapsed_s = now_s - self._last_s
        if elapsed_s < self._interval_s or elapsed_s <= 0:
            return None
        cpu_s = _cpu_seconds()
        values = {"system/driver_cpu_percent": 100 * (cpu_s - self._last_cpu_s) / elapsed_s}
        self._last_s, self._last_cpu_s = now_s, cpu_s
        values["system/host_load_1m"] = os.getloadavg()[0]
        statm, meminfo = _PROC / "self" / "statm", _PROC / "meminfo"
        if statm.is_file():
            values["system/driver_memory_mb"] = resident_mb(statm.read_text(), os.sysconf("SC_PAGE_SIZE"))
        if meminfo.is_file():
            values["system/host_memory_percent"] = used_percent(meminfo.read_text())
        return values


def resident_mb(statm: str, page_bytes: int) -> float:
    """Resident memory in MiB, from the text of ``/proc/self/statm``."""
    return int(statm.split()[1]) * page_bytes / 2**20


def used_percent(meminfo: str) -> float:
    """Memory in use in percent, from the text of ``/proc/meminfo``."""
    fields = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in meminfo.splitlines())}
    return 100 * (1 - fields["MemAvailable"] / fields["MemTotal"])


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system
