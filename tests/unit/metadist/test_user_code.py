"""A user's factory is found for the bundle as it is found for training: from the working directory, last."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metadist.serving.user_code import USER_CODE, pack_factory


def test_a_factory_of_the_working_directory_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_to_pack.py").write_text("def build(spec):\n    return None\n")
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    digest = pack_factory("net_to_pack:build", tmp_path / "bundle")
    assert (tmp_path / "bundle" / USER_CODE / "net_to_pack.py").is_file()
    assert len(digest) == 64
