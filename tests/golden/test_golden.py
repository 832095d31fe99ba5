"""Law 9: the losses of short runs are those that were written down.

Compared to four digits: other processors round otherwise, and 20 steps carry it further.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.golden import FOLDER, RUNS, losses, read


@pytest.mark.parametrize("name", RUNS)
def test_golden_losses(name: str, tmp_path: Path) -> None:
    found, written = losses(name, tmp_path / "run"), read(name)
    assert [step for step, _, _ in written] == list(range(1, 21))
    for (_, loss, norm), (step, golden_loss, golden_norm) in zip(found, written, strict=True):
        assert loss == pytest.approx(golden_loss, rel=1e-4), f"query loss of step {step}"
        assert norm == pytest.approx(golden_norm, rel=1e-3), f"gradient norm of step {step}"


def test_every_file_has_a_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(RUNS)
