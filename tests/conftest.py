"""What every test may rely on: pinned numerics, a home of their own, small task stores."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import metadist  # before torch: it sets the variables that torch reads when it is imported

# isort: split
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from metadist import numerics
from tasks_store import named_store
from tasks_store.generators.customers import build_customers
from tasks_store.generators.glyphs import build_glyphs
from tasks_store.generators.sinusoids import build_sinusoids
from tasks_store.importers.omniglot import import_omniglot

# Explicit, and before Ray is imported: unset, it writes a token file into the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 lets workers starve beside the test processes
os.environ.pop("RAY_ADDRESS", None)

DATA = Path(__file__).parents[2] / "shared" / "data"
RECIPE_GLYPHS = 60

assert metadist.__version__
settings.register_profile("metadist", deadline=None)  # a busy machine is no failure
settings.load_profile("metadist")

_FIRST = (
    "tests/ray",
    "tests/laws/test_driver_kills.py",  # starts a Ray: before a process may share another one
    "tests/laws/test_places.py",
    "tests/mlflow",
    "tests/laws",
    "tests/cli",
    "tests/readme",
)
_TOGETHER = ("tests/ray", "tests/mlflow")  # their files share a Ray, a server
_APART = ("tests/ray/test_nodes.py", "tests/ray/test_own_ray.py")  # these start their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that the test processes end together."""
    items.sort(key=lambda item: _turn(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Several processes (pytest-xdist): one takes a whole file, or a folder whose files share a Ray or a server."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):
    """Hands out files, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in _TOGETHER if file.startswith(folder) and file not in _APART), file)


def _turn(nodeid: str) -> int:
    return next((place for place, name in enumerate(_FIRST) if nodeid.startswith(name)), len(_FIRST))


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
def customers(home: Path) -> str:
    """The store ``customers``, with fewer of them."""
    sizes = {"train": 20, "validation": 5, "test": 5}
    return build_once("customers", lambda place: build_customers(place, sizes=sizes))


@pytest.fixture(scope="session")
def few_glyphs(home: Path) -> str:
    """The store ``glyphs``, with fewer classes."""
    return build_once("glyphs", lambda place: build_glyphs(place, max_classes=RECIPE_GLYPHS))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The one Ray of the tests: four logical CPUs, two with a pretended GPU. A group finds it and leaves it running."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own: sockets and processes that it leaves to the collector
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=150 * 2**20,
            namespace="test",
        )
    yield
    ray.shutdown()
