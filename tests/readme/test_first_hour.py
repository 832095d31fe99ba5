"""docs/first-hour.md, from an empty folder: a CSV, a network and five commands, to an answer with label names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import metadist
from metadist.cli import app
from tests.support.documents import document

PAGE = document("first-hour.md")


@pytest.mark.slow
def test_five_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    PAGE.lay_out(tmp_path, monkeypatch)
    exec(compile(PAGE.blocks["table"], "table", "exec"), {})
    assert [command[0] for command in PAGE.commands] == ["tasks", "train", "evaluate", "register", "adapt"]
    found = {}
    for command in PAGE.commands:
        app([*command, "--json"], standalone_mode=False)
        found[command[0]] = json.loads(capsys.readouterr().out)
    assert found["tasks"]["groups"] == 60 and found["tasks"]["rows"] == 720
    report = found["evaluate"]
    assert report["one_query_at_a_time"]["accuracy"] > 0.8
    assert {"class means", "logistic regression", "random start, adapted"} <= set(report["baselines"])
    with open("answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["ring"], row["predicted"]) for row in rows] == [("A17", "heron"), ("A18", "kestrel"), ("A19", "wren")]
    assert all(set(row) == {"ring", "predicted", "probability"} and float(row["probability"]) > 0.5 for row in rows)
    adapter = metadist.load_adapter("models:/specimens@candidate")
    assert (adapter.bundle.folder / "user_code" / "my_net.py").exists()
    assert adapter.bundle.input.fields == ("m_length", "m_width", "m_mass", "m_colour")
