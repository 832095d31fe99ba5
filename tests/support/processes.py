"""What processes hold, read from /proc: memory, open files, who is whose child. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one process holds.

    Attributes:
        memory_mb: Anonymous memory (heap, stacks), swapped out or not, in MiB. Unlike the USS it does not depend on
            who else has the same libraries open, unlike the RSS it does not hold the object store.
        files: Open file descriptors.
    """

    memory_mb: float
    files: int


def held(pid: int) -> Held | None:
    """What a process holds now; None if it has gone."""
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        files = len(os.listdir(PROC / str(pid) / "fd"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    kilobytes = sum(int(fields[name].split()[0]) for name in ("Anonymous", "Swap"))
    return Held(memory_mb=kilobytes / 1024, files=files)


def descendants(pid: int) -> dict[int, str]:
    """Process id -> short name, of a process and everything below it."""
    parents = dict(_parents())
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    names = {member: _name(member) for member in family}
    return {member: name for member, name in names.items() if name}


def command_line(pid: int) -> list[str]:
    """The words of a process's command line; empty if it has gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> Iterator[tuple[int, int]]:
    for path in PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(path.parent.name), int(fields[1])


def _name(pid: int) -> str:
    words = [word for word in command_line(pid) if word]
    if not words:
        return ""
    if words[0].startswith("ray::"):
        return words[0].split()[0].partition(".")[0]  # without the method that runs at the moment
    scripts = [word for word in words if word.endswith(".py")]
    return Path((scripts or words)[0]).name if "metadist" not in words else "driver"
