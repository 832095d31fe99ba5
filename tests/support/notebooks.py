"""The notebooks of ``docs/notebooks``, each run from a clean kernel in an empty folder.

``python -m tests.support.notebooks [NAME ...]`` runs them (all, where none is named) and stores what they showed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from metadist import numerics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
CELL_S = 240  # a busy machine; alone, no notebook takes a minute
FILE_CELL = re.compile(r"%%writefile (\S+)\n(.*)", re.S)


def stored(name: str) -> NotebookNode:
    """The notebook as it lies in the repository."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(name: str, place: Path) -> NotebookNode:
    """The notebook with fresh outputs; ``place`` must be an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    fresh = stored(name)
    for cell in code_cells(fresh):
        cell.outputs, cell.execution_count = [], None
    (place / "work").mkdir()
    own = {
        "METADIST_HOME": str(place / "home"),
        "IPYTHONDIR": str(place / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    outside = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
    client = NotebookClient(
        fresh,
        timeout=CELL_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(place / "work")}},
    )
    client.execute(env={**outside, **own})
    fresh.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"}, made_on=machine()
    )
    return fresh


def write(name: str) -> None:
    """Run the notebook, and store it with its outputs."""
    with tempfile.TemporaryDirectory() as place:
        fresh = run(name, Path(place))
    nbformat.validate(fresh)
    (FOLDER / f"{name}.ipynb").write_text(nbformat.writes(fresh, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the bits of an output depend on: the numerics record and the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {**numerics.record(), "processor": models[0] if models else "unknown"}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: NotebookNode) -> list[list[str]]:
    """What each code cell showed, as text; of a picture its kind alone, since its bytes are those of the fonts."""
    return [[_text(output) for output in cell.outputs] for cell in code_cells(notebook)]


def files(notebook: NotebookNode) -> dict[str, str]:
    """The files that its ``%%writefile`` cells write."""
    found = (FILE_CELL.fullmatch(cell.source) for cell in code_cells(notebook))
    return {match[1]: match[2] for match in found if match}


def _text(output: NotebookNode) -> str:
    if output.output_type == "error":
        return f"error {output.ename}: {output.evalue}"
    if output.output_type == "stream":
        return f"{output.name}: {output.text}"
    return "image/png" if "image/png" in output.data else str(output.data["text/plain"])


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        write(each)
        print(FOLDER / f"{each}.ipynb")
