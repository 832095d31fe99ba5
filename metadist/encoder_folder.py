"""Where a pretrained encoder lies: its weights for the model, its tokenizer for the transform."""

from __future__ import annotations

from pathlib import Path

from tasks_store import is_bare_name, metadist_home


def encoder_folder(path: str) -> Path:
    """The folder as given, or ``METADIST_HOME/encoders/NAME`` for a bare name that is no folder here.

    It need not exist.
    """
    given = Path(path).expanduser()
    return metadist_home() / "encoders" / path if is_bare_name(path) and not given.is_dir() else given
