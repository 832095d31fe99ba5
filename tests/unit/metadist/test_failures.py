"""What a full disk is called, and what is left as it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from metadist.errors import DiskRefused
from metadist.failures import DISK_ERRORS, translated


@pytest.mark.parametrize("number", DISK_ERRORS, ids=errno.errorcode.get)
def test_a_disk_that_refuses_is_named_with_the_cure(number: int, tmp_path: Path) -> None:
    file = str(tmp_path / "checkpoints" / "params.safetensors")
    with pytest.raises(DiskRefused, match=r"params\.safetensors \(.*--resume") as caught, translated(tmp_path):
        raise OSError(number, os.strerror(number), file)
    assert caught.value.exit_code == 69


def test_a_disk_error_without_a_file_names_the_run_folder(tmp_path: Path) -> None:
    with pytest.raises(DiskRefused, match=f"cannot write to {tmp_path} "), translated(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_other_errors_of_the_system_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), translated(tmp_path):
        (tmp_path / "absent").read_text()
