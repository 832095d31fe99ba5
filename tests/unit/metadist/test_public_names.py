"""Law 12: public names exist and are sorted; every example in a docstring is true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from typing import get_args

import pytest

import cluster
import metadist
import tasks_store

PACKAGES = (cluster, metadist, tasks_store)
MODULES = [
    name
    for package in PACKAGES
    for name in (package.__name__, *(i.name for i in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")))
]


def order(name: str) -> tuple[int, str]:
    """Constants, classes, the rest: as ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_names_in_all_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert list(listed) == sorted(set(listed), key=order)
    for public in listed:
        assert getattr(module, public) is not None


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore")
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_lazy_names_and_typed_names_agree() -> None:
    """``metadist`` imports its names when they are used; the three lists of them must say the same."""
    assert set(metadist._HOME) | {"__version__"} == set(metadist.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        metadist.nonsense  # noqa: B018


def test_importing_metadist_imports_nothing_heavy() -> None:
    program = "import sys, metadist; print([m for m in ('torch', 'ray', 'mlflow', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_registries_know_every_configured_name() -> None:
    from metadist.config import ModelConfig, ObjectiveConfig, OuterConfig
    from metadist.config.presets import OBJECTIVES, PRESETS
    from metadist.models import SHIPPED
    from metadist.objectives import build_objective
    from metadist.outer import OPTIMIZERS
    from tests.support.cases import CASES

    def literals(section: type, field: str) -> set[str]:
        annotation = section.model_fields[field].annotation  # type: ignore[attr-defined]
        nested = [value for part in get_args(annotation) for value in (get_args(part) or (part,))]
        return {value for value in nested if isinstance(value, str)}

    assert literals(ModelConfig, "name") == set(SHIPPED)
    assert literals(OuterConfig, "optimizer") == set(OPTIMIZERS)
    for name in OBJECTIVES:
        assert build_objective(ObjectiveConfig(name=name)).loss is not None
    assert set(PRESETS) == {case.section["name"] for case in CASES}, "a row is missing"
