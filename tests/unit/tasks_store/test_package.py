"""The public names, and what the package may import."""

from __future__ import annotations

import subprocess
import sys

import tasks_store


def test_public_names_are_sorted_and_there() -> None:
    names = tasks_store.__all__
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower() or "_" in name, name))
    assert all(hasattr(tasks_store, name) for name in names)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, tasks_store, tasks_store.preview, tasks_store.inspect, "
        "tasks_store.generators.glyphs, tasks_store.generators.sinusoids, "
        "tasks_store.importers.omniglot, tasks_store.importers.download;"
        "heavy = {'torch', 'ray', 'mlflow', 'matplotlib', 'PIL', 'scipy', 'metadist', 'cluster'};"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
