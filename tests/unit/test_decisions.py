"""Every decision record has its headings, its number, its row in the index and a confirming test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
HEADINGS = ["Context", "Decision", "Consequences", "Confirmed by"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_record_is_whole(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    number = record.name[:4]
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^Status: (accepted|superseded by \d{4})$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert f"]({record.name})" in (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_confirming_tests_exist(record: Path) -> None:
    confirmed = record.read_text(encoding="utf-8").split("## Confirmed by")[1]
    paths = re.findall(r"`(tests/[\w/.-]+)", confirmed)
    assert paths, "name the test that confirms the decision, by its path"
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_numbers_are_consecutive() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))
