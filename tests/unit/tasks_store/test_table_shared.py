"""Three public tables as people have them become stores by one command each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks_store import ImportFailed, Store, load_split
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table

SHARED = Path(__file__).parents[4] / "shared" / "data"
CLINC = SHARED / "clinc150" / "clinc150.parquet"
BANKING = SHARED / "banking77" / "banking77.parquet"
AIR = SHARED / "beijing_air" / "beijing_air_hourly.parquet"
pytestmark = pytest.mark.skipif(not CLINC.is_file(), reason="the shared tables are not here")

INTENTS: dict[str, Any] = {"label": "intent", "value": ("text",)}
HOURS: dict[str, Any] = {
    "files": (AIR,),
    "target": "PM2.5",
    "value": ("TEMP", "PRES", "DEWP", "RAIN", "WSPM"),
    "group": ("station", "year", "month"),
    "order_by": ("day", "hour"),
    "split_by": "station",
}


def test_clinc150_by_domain(tmp_path: Path) -> None:
    request = TableRequest(files=(CLINC,), **INTENTS, split_by="domain", drop_label=("oos",))
    _, summary = import_table(request, tmp_path / "s")
    assert summary.dropped == {"--drop-label": 1200}
    assert summary.splits == {"test": 30, "train": 105, "validation": 15}
    store = Store.open(tmp_path / "s")
    assert {split: len(set(store.groups(split).domains)) for split in store.splits} == {
        "test": 2,
        "train": 7,
        "validation": 1,
    }


def test_banking77_and_its_split_of_rows(tmp_path: Path) -> None:
    _, summary = import_table(TableRequest(files=(BANKING,), **INTENTS, split="0.7,0.1,0.2"), tmp_path / "s")
    assert (summary.kept, summary.splits) == (13083, {"test": 15, "train": 54, "validation": 8})
    for file in (BANKING, CLINC):
        with pytest.raises(ImportFailed, match=r"lies in two splits.*--split 0.7,0.1,0.2.*--split-by domain"):
            import_table(TableRequest(files=(file,), **INTENTS, split_column="split"), tmp_path / "t")


@pytest.mark.slow
def test_beijing_air_in_time_order(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"rows have gaps .*PM2\.5 8739.*--missing drop"):
        import_table(TableRequest(**HOURS), tmp_path / "error")
    _, dropped = import_table(TableRequest(**HOURS, missing="drop"), tmp_path / "drop")
    _, filled = import_table(TableRequest(**HOURS, missing="mean+flag"), tmp_path / "fill")
    assert filled.kept == 420_768 - 8739 and dropped.kept < filled.kept
    assert dropped.splits == filled.splits == {"test": 96, "train": 432, "validation": 48}
    data = load_split(Store.open(tmp_path / "drop"), "test")
    station, year, month = data.names[5].split("/")
    wanted = (pc.field("station") == station) & (pc.field("year") == int(year)) & (pc.field("month") == int(month))
    mine = pq.read_table(AIR).filter(wanted).to_pylist()
    mine = [row for row in mine if all(row[name] is not None for name in ("PM2.5", *HOURS["value"]))]
    mine.sort(key=lambda row: (row["day"], row["hour"]))
    found = data.arrays["y"][data.offsets[5] : data.offsets[6]]
    assert found.tolist() == [row["PM2.5"] for row in mine]
