"""Small stores of real tables: hours of Beijing's air by station, questions to a bank by intent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks_store import Column, write_store
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table

DATA = Path(__file__).parents[3] / "shared" / "data"
HOURS = 80
SHORT, SHORT_HOURS = "Tiantan", 9  # a station with few hours


def air_store(folder: Path) -> str:
    """Groups are stations, rows hours in order: pressure, dew point and wind to the temperature in degrees."""
    source = DATA / "beijing_air" / "beijing_air_hourly.parquet"
    if not source.exists():
        pytest.skip(f"{source} is missing")
    table = pq.read_table(source, columns=["station", "TEMP", "PRES", "DEWP", "WSPM"]).drop_null()
    stations = sorted(pc.unique(table["station"]).to_pylist())
    rows: dict[str, list[object]] = {"station": [], "split": [], "x": [], "degrees": []}
    for place, station in enumerate(stations):
        hours = table.filter(pc.equal(table["station"], station)).slice(0, SHORT_HOURS if station == SHORT else HOURS)
        x = np.stack([hours[name].to_numpy() for name in ("PRES", "DEWP", "WSPM")], 1).astype(np.float32)
        split = "train" if place < 6 or station == SHORT else "validation" if place < 9 else "test"
        rows["station"] += [station] * len(x)
        rows["split"] += [split] * len(x)
        rows["x"] += x.tolist()
        rows["degrees"] += hours["TEMP"].to_pylist()
    columns = [Column(name="x", dtype="float32", shape=(3,)), Column(name="degrees", dtype="float32", unit="degC")]
    named = {("group" if name == "station" else name): values for name, values in rows.items()}
    listed = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]
    write_store(listed, folder / "air", name="air", kind="groups", columns=columns)
    return str(folder / "air")


INSTRUMENTS = {  # what is asked for, and what stands by it
    "PM2.5": ("hour", "SO2", "NO2", "CO", "TEMP", "PRES", "DEWP", "RAIN", "WSPM", "O3"),
    "O3": ("hour", "SO2", "NO2", "CO", "TEMP", "PRES", "DEWP", "RAIN", "WSPM", "PM2.5", "PM10"),
}
YEARS = {"train": ["2013", "2014"], "validation": ["2015"], "test": ["2016", "2017"]}


def hours_store(folder: Path, *, target: str = "PM2.5", where: str | None = None) -> str:
    """Groups are a station and month, rows hours in order: all other instruments to ``target``. Splits are years, as
    docs/evidence.md has it; ``where`` takes a part of the table."""
    source = DATA / "beijing_air" / "beijing_air_hourly.parquet"
    if not source.exists():
        pytest.skip(f"{source} is missing")
    folder.parent.mkdir(parents=True, exist_ok=True)
    years = folder.with_name(f"{folder.name}-years.json")
    years.write_text(json.dumps(YEARS))
    request = TableRequest(
        files=(source,),
        target=target,
        value=INSTRUMENTS[target],
        group=("station", "year", "month"),
        order_by=("day", "hour"),
        split_by="year",
        split_file=years,
        missing="drop",
        where=where,
    )
    import_table(request, folder)
    return str(folder)


def bank_store(folder: Path, *, intents: int = 12, questions: int = 12) -> str:
    """Classes are intents, rows short questions as text."""
    source = DATA / "banking77" / "banking77.parquet"
    if not source.exists():
        pytest.skip(f"{source} is missing")
    table = pq.read_table(source)
    names = sorted(pc.unique(table["intent"]).to_pylist())[:intents]
    table = pa.concat_tables(table.filter(pc.equal(table["intent"], name)).slice(0, questions) for name in names)
    few, splits = folder / "bank.parquet", folder / "splits.json"
    pq.write_table(table.select(["text", "intent"]), few)
    third = intents // 3
    splits.write_text(
        json.dumps({"train": names[: -2 * third], "validation": names[-2 * third : -third], "test": names[-third:]})
    )
    import_table(TableRequest(files=(few,), label="intent", value=("text",), split_file=splits), folder / "bank")
    return str(folder / "bank")
