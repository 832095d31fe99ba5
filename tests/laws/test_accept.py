"""Resuming across a difference that was accepted: it is carried out, told, and never what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import metadist
from metadist import Observer
from metadist.errors import ConfigError, FingerprintMismatch
from tests.laws.test_resume import crashed_after
from tests.support.quick import SMALL_RUN, happened, journalled, timeless, train_quickly


def test_an_accepted_difference_is_carried_out_and_told(tmp_path: Path) -> None:
    """5 steps with one rate, 5 with another; it is told again by a resume that cuts the journal back."""
    faster = {"outer.lr": 0.05}
    train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "run")
    messages: list[str] = []
    observer = Observer(on_message=messages.append)
    accept = ["outer.lr,seed", "torch_version"]
    crashed_after(7, faster, tmp_path / "run", resume=True, accept=accept, observer_of=observer)
    assert [message for message in messages if "nothing to accept" in message] == [
        f"--accept {name}: it does not differ, so there was nothing to accept" for name in ("seed", "torch_version")
    ]
    run = train_quickly(SMALL_RUN, faster, tmp_path / "run", resume=True)
    told = {"step": 5, "name": "accepted_difference", "key": "outer.lr", "change": "0.01 -> 0.05"}
    assert happened(run.run_dir, "accepted_difference") == [told]
    assert "outer.lr: 0.01 -> 0.05 (step 5)" in [
        row.get("metadist.accepted") for row in journalled(run.run_dir, "tags")
    ]
    rates = {row["step"]: row["train/lr"] for row in timeless(run.run_dir) if "train/lr" in row}
    assert [rates[step] for step in range(1, 11)] == [0.01] * 5 + [0.05] * 5
    assert metadist.load_run(run.run_dir).config.outer.lr == 0.05
    with pytest.raises(FingerprintMismatch, match=r"outer\.lr: 0\.05 -> 0\.01"):
        train_quickly(SMALL_RUN, {}, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("settings", "accept", "words"),
    [
        ({"outer.optimizer": "sgd"}, "outer.optimizer", "optimizer 0.exp_avg"),
        ({"outer.options": {"amsgrad": True}}, "outer.options,outer.options.amsgrad", "optimizer 0.max_exp_avg_sq"),
        ({"model.options.hidden": [9]}, "model.options.hidden", "model model.body.0.bias"),
    ],
)
def test_what_a_checkpoint_does_not_fit_cannot_be_accepted(
    settings: dict[str, Any], accept: str, words: str, tmp_path: Path
) -> None:
    train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "run")
    before = (tmp_path / "run" / "fingerprint.json").read_bytes()
    with pytest.raises(ConfigError, match=f"does not fit this configuration .{words}"):
        train_quickly(SMALL_RUN, settings, tmp_path / "run", resume=True, accept=[accept])
    assert (tmp_path / "run" / "fingerprint.json").read_bytes() == before


def test_other_numerics_are_accepted_by_name_or_as_a_whole(tmp_path: Path) -> None:
    train_quickly(SMALL_RUN, {"outer.num_steps": 5}, tmp_path / "run")
    made_from = tmp_path / "run" / "fingerprint.json"
    old = json.loads(made_from.read_text())
    old["numerics"].update(torch_version="1.0", machine="other")
    for how in ({"accept": ["torch_version,machine"]}, {"accept_numerics": True}):
        made_from.write_text(json.dumps(old))
        with pytest.raises(FingerprintMismatch, match=r"machine: 'other' -> .*--accept machine goes on"):
            train_quickly(SMALL_RUN, {}, tmp_path / "run", resume=True, accept=["torch_version"])
        run = train_quickly(SMALL_RUN, {}, tmp_path / "run", resume=True, **how)
        told = happened(run.run_dir, "accepted_difference")
        assert [entry["key"] for entry in told[-2:]] == ["machine", "torch_version"]
