"""A page of the documentation, taken apart so that its examples can be run as they stand."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Document:
    """What a page holds.

    Attributes:
        text: The whole page.
        blocks: Name -> code of each block under ``<!-- test: NAME -->`` or ``<!-- test: NAME, file: FILE -->``.
        files: File -> its content.
        commands: The lines of its ``sh`` blocks as arguments of ``metadist``.
    """

    text: str
    blocks: dict[str, str]
    files: dict[str, str]
    commands: list[list[str]]

    def lay_out(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        """Its files in ``place``, the working directory, which nothing but ``code_path`` makes importable."""
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        patch.setattr(sys, "path", [entry for entry in sys.path if entry])
        for name, text in self.files.items():
            (place / name).write_text(text)

    def about(self, words: str) -> list[list[str]]:
        """The commands that name ``words``."""
        return [command for command in self.commands if any(words in argument for argument in command)]


def document(name: str) -> Document:
    """The page ``docs/NAME``."""
    text = (DOCS / name).read_text()
    found = re.findall(r"<!-- test: ([\w-]+)(?:, file: (\S+))? -->\n```\w+\n(.*?)```", text, re.S)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    return Document(
        text,
        {block: code for block, _, code in found},
        {file: code for _, file, code in found if file},
        [shlex.split(line)[1:] for line in lines],
    )
