"""docs/evidence.md: its imports run as they stand and give what the tests of the recipe take; its recipe is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist.cli import app
from metadist.config.load import load_config, parse_overrides
from tasks_store import Store
from tests.support.documents import document
from tests.support.tables import DATA, INSTRUMENTS, YEARS

PAGE = document("evidence.md")
TABLE = "beijing_air_hourly.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["PM2.5", "O3"])
def test_the_table_becomes_a_store(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / "beijing_air" / TABLE).exists():
        pytest.skip(f"{DATA / 'beijing_air' / TABLE} is missing")
    PAGE.lay_out(tmp_path, monkeypatch)
    (tmp_path / TABLE).symlink_to(DATA / "beijing_air" / TABLE)
    (command,) = (line for line in PAGE.about("import") if line[line.index("--target") + 1] == target)
    app([*command[:-1], "store"], standalone_mode=False)
    store = Store.open(tmp_path / "store")
    assert store.columns["x"].fields == INSTRUMENTS[target]
    for split, years in YEARS.items():
        assert set(store.groups(split).domains) == set(years)


def test_its_trainings_are_of_these_stores() -> None:
    trainings = [line for line in PAGE.commands if line[0] == "train"]
    found = []
    for _, recipe, *rest in trainings:
        given = [value for flag, value in zip(rest[::2], rest[1::2], strict=True) if flag == "--set"]
        found.append(load_config(recipe, parse_overrides(given)).tasks.path)
    assert found == [Path(line[-1]).name for line in PAGE.about("import")] == ["beijing-air", "beijing-ozone"]
