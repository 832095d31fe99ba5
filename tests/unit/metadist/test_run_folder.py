"""The run folder: one driver at a time, and only the configuration that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist import load_config
from metadist.errors import ConfigError, DataError, FingerprintMismatch, UsageError
from metadist.folder import run_folder
from metadist.tracking import TrackingUnavailable
from tests.support.quick import SMALL_RUN

RECORD = {"torch_version": "2", "threads": 1}


def begun(folder: Path) -> Path:
    run_folder.begin(folder, load_config(SMALL_RUN), RECORD, "data-hash", {"location": None})
    return folder


def test_what_was_begun_is_read(tmp_path: Path) -> None:
    assert not run_folder.is_used(tmp_path)
    with pytest.raises(DataError, match="not a run folder"):
        run_folder.read_config(tmp_path)
    begun(tmp_path)
    assert run_folder.is_used(tmp_path)
    assert run_folder.read_config(tmp_path) == load_config(SMALL_RUN)
    assert run_folder.read_config(tmp_path, {"cluster.num_workers": 3}).cluster.num_workers == 3


def test_resume_names_every_key_with_both_values(tmp_path: Path) -> None:
    begun(tmp_path)
    other = load_config(SMALL_RUN, {"outer.lr": 0.5, "algorithm.inner_steps": 2, "cluster.num_workers": 5})
    with pytest.raises(FingerprintMismatch) as raised:
        run_folder.check_resume(tmp_path, other, RECORD, "data-hash", accept_numerics=True)
    assert "outer.lr: 0.01 -> 0.5" in str(raised.value)
    assert "algorithm.inner_steps: 1 -> 2" in str(raised.value)
    assert "cluster" not in str(raised.value)


def test_a_key_that_is_younger_than_the_run_has_its_default(tmp_path: Path) -> None:
    begun(tmp_path)
    for name in (run_folder.FINGERPRINT, run_folder.RESOLVED):
        lines = (tmp_path / name).read_text().splitlines()
        kept = [line for line in lines if "on_nonfinite" not in line]
        assert len(kept) < len(lines)
        (tmp_path / name).write_text("\n".join(kept))
    assert run_folder.check_resume(tmp_path, load_config(SMALL_RUN), RECORD, "data-hash") == {}
    other = load_config(SMALL_RUN, {"outer.on_nonfinite": "drop"})
    with pytest.raises(FingerprintMismatch, match=r"outer\.on_nonfinite: 'stop' -> 'drop'"):
        run_folder.check_resume(tmp_path, other, RECORD, "data-hash")


def test_resume_wants_the_same_data_and_numerics(tmp_path: Path) -> None:
    config = load_config(SMALL_RUN)
    begun(tmp_path)
    assert run_folder.check_resume(tmp_path, config, RECORD, "data-hash", accept_numerics=False) == {}
    with pytest.raises(FingerprintMismatch, match="other data"):
        run_folder.check_resume(tmp_path, config, RECORD, "another-hash", accept_numerics=True)
    other = {**RECORD, "threads": 2}
    with pytest.raises(FingerprintMismatch, match=r"threads: 1 -> 2.*--accept-numerics"):
        run_folder.check_resume(tmp_path, config, other, "data-hash", accept_numerics=False)
    accepted = run_folder.check_resume(tmp_path, config, other, "data-hash", accept_numerics=True)
    assert accepted == {"threads": "1 -> 2"}


def test_differences_are_accepted_by_the_names_that_the_refusal_prints(tmp_path: Path) -> None:
    begun(tmp_path)
    other = load_config(SMALL_RUN, {"outer.lr": 0.5, "algorithm.inner_steps": 2})
    record = {**RECORD, "threads": 2}
    with pytest.raises(FingerprintMismatch) as raised:
        run_folder.check_resume(tmp_path, other, record, "data-hash")
    names = str(raised.value).split("--accept ")[1].split(" ")[0].split(",")
    assert set(names) == {"outer.lr", "algorithm.inner_steps", "evaluation.inner_steps", "threads"}
    accepted = run_folder.check_resume(tmp_path, other, record, "data-hash", accept=names)
    assert set(accepted) == set(names) and accepted["outer.lr"] == "0.01 -> 0.5"
    for name in names:
        with pytest.raises(FingerprintMismatch, match=name):
            run_folder.check_resume(tmp_path, other, record, "data-hash", accept=set(names) - {name})


@pytest.mark.parametrize("name", ["outer.rl", "cluster.num_workers", "data"])
def test_what_is_not_compared_cannot_be_accepted(name: str, tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(UsageError, match=rf"--accept {name}: no such key.*known: .*outer\.lr.*torch_version") as raised:
        run_folder.check_resume(tmp_path, load_config(SMALL_RUN), RECORD, "data-hash", accept=[name])
    assert ("did you mean outer.lr?" in str(raised.value)) == (name == "outer.rl")


def test_a_used_folder_is_not_started_afresh(tmp_path: Path) -> None:
    run_folder.refuse_used(tmp_path, load_config(SMALL_RUN))
    begun(tmp_path)
    with pytest.raises(ConfigError, match="by this configuration; --resume continues it"):
        run_folder.refuse_used(tmp_path, load_config(SMALL_RUN))
    with pytest.raises(ConfigError, match=r"another configuration \(seed: 0 -> 1\)"):
        run_folder.refuse_used(tmp_path, load_config(SMALL_RUN, {"seed": 1}))


def test_a_password_is_nobody_elses_business() -> None:
    secret, plain = (
        load_config(SMALL_RUN, {"tracking.uri": uri}) for uri in ("mysql://me:a/b@c@host/db", "http://host")
    )
    assert run_folder.readable(secret).tracking.uri is None
    assert run_folder.readable(plain) is plain
    said = str(TrackingUnavailable("postgresql://me@there:secret@host/db?password=secret", "away"))
    assert "secret" not in said and "there" not in said and "://***@host/db?password=***" in said
