"""Where a pretrained encoder lies: its weights for the model, its tokenizer for the transform."""

from __future__ import annotations

from pathlib import Path


def encoder_folder(path: str) -> Path:
    """The folder as given, or ``METADIST_HOME/encoders/NAME`` for a bare name that is no folder here.

    It need not exist.
    """
    given = Path(path).expanduser()
    if given.is_dir() or given.is_absolute():
        return given
    from tasks_store import is_bare_name, metadist_home  # serving has no stores, and a bundle's folder is absolute

    return metadist_home() / "encoders" / path if is_bare_name(path) else given
