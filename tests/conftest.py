"""What every test may rely on: pinned numerics, a home of their own, small task stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import metadist  # before torch: it sets the variables that torch reads when it is imported

# isort: split
import pytest

from metadist import numerics
from tasks_store import named_store
from tasks_store.generators.glyphs import build_glyphs
from tasks_store.generators.sinusoids import build_sinusoids
from tasks_store.importers.omniglot import import_omniglot

DATA = Path(__file__).parents[2] / "shared" / "data"
RECIPE_GLYPHS = 60

assert metadist.__version__


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``METADIST_HOME`` of the session: no test reads or writes the user's own stores."""
    numerics.pin()
    folder = tmp_path_factory.mktemp("home")
    with mock.patch.dict(os.environ, {"METADIST_HOME": str(folder)}):
        yield folder


def build_once(name: str, build: Callable[[Path], object]) -> str:
    """Make a named store in the session's home unless it is there; returns the name."""
    place = named_store(name)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        build(place)
    return name


@pytest.fixture(scope="session")
def omniglot(home: Path) -> str:
    """The store ``omniglot`` of real characters, in the split of the papers."""
    source = DATA / "omniglot"
    if not source.is_dir():
        message = f"{source} is missing, so nothing can be tested on real characters"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return build_once("omniglot", lambda place: import_omniglot(source, place))


@pytest.fixture(scope="session")
def sinusoids(home: Path) -> str:
    """The store ``sinusoids``, with fewer rows."""
    sizes = {"train": 1000, "validation": 200, "test": 200}
    return build_once("sinusoids", lambda place: build_sinusoids(place, sizes=sizes))


@pytest.fixture(scope="session")
def few_glyphs(home: Path) -> str:
    """The store ``glyphs``, with fewer classes."""
    return build_once("glyphs", lambda place: build_glyphs(place, max_classes=RECIPE_GLYPHS))
