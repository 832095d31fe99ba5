"""Ten million rows are imported in bounded memory: a whole load would break the bound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks_store.importers.partition import PARTITION_BYTES

ROWS, GROUPS, BATCH = 10_000_000, 20_000, 500_000
BOUND_MB = 900
"""Measured: 707 MB in parts, 1249 MB in one part, which is a whole load; the rows are 458 MB as read."""

PROGRAM = """
import json, sys, time
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table
def peak():  # not ru_maxrss, which a child takes over from its parent
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
begun = time.perf_counter()
request = TableRequest(files=(sys.argv[1],), target="y", value=("v*",), group=("user",), order_by=("time",),
                       split="0.7,0.1,0.2")
manifest, summary = import_table(request, sys.argv[2], partition_bytes=int(sys.argv[3]))
print(json.dumps({"before": before, "peak": peak(), "kept": summary.kept, "groups": summary.groups,
                  "seconds": time.perf_counter() - begun}))
"""


def _write(file: Path, rows: int) -> int:
    """Rows of all groups shuffled; returns their bytes in memory."""
    size = 0
    rng = np.random.default_rng(3)
    writer = None
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        table = pa.table(
            {
                "user": rng.integers(0, GROUPS, count),
                "time": rng.permutation(count) + start,
                **{f"v{place}": rng.normal(size=count).astype(np.float32) for place in range(7)},
                "y": rng.normal(size=count).astype(np.float32),
            }
        )
        size += table.nbytes
        writer = writer or pq.ParquetWriter(file, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return size


def _import(file: Path, out: Path, partition_bytes: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file), str(out), str(partition_bytes)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    assert (found["kept"], found["groups"]) == (ROWS, GROUPS)
    return found


@pytest.mark.laws
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_million_rows(tmp_path: Path) -> None:
    size = _write(tmp_path / "t.parquet", ROWS) / 2**20
    parts = _import(tmp_path / "t.parquet", tmp_path / "parts", PARTITION_BYTES)
    whole = _import(tmp_path / "t.parquet", tmp_path / "whole", 1 << 40)
    print(f"rows in memory {size:.0f} MB; in parts {json.dumps(parts)}; in one part {json.dumps(whole)}")
    assert parts["peak"] < BOUND_MB < whole["peak"]
