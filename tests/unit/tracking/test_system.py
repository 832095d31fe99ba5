"""System metrics: taken when due, made of what the operating system says."""

from __future__ import annotations

import pytest

from metadist.tracking import SystemMetrics
from metadist.tracking.system import resident_mb, used_percent


def test_a_sample_is_taken_when_the_interval_is_over() -> None:
    now = [0.0]
    system = SystemMetrics(10.0, clock=lambda: now[0])
    now[0] = 9.9
    assert system.sample() is None
    now[0] = 10.0
    values = system.sample()
    assert values is not None
    assert all(name.startswith("system/") and value >= 0 for name, value in values.items())
    assert "system/driver_cpu_percent" in values
    now[0] = 19.9
    assert system.sample() is None


def test_texts_of_proc() -> None:
    assert resident_mb("1000 512 100 1 0 200 0", 4096) == 2.0
    assert used_percent("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n") == pytest.approx(75.0)
