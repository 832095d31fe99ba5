"""Law 11: every exception class of the three packages pickles, and keeps its type, message and fields."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

import cluster
import metadist
import tasks_store


def modules() -> list[ModuleType]:
    """All modules of the three packages."""
    found = []
    for package in (cluster, metadist, tasks_store):
        names = [info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        found += [package, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]
    return found


def exception_classes() -> list[type[BaseException]]:
    """Every exception class that is defined in one of the modules."""
    classes = {
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }
    return sorted(classes, key=lambda value: (value.__module__, value.__qualname__))


def sample(annotation: Any, name: str) -> Any:
    """A value of an annotated type that is not its default."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list):
        kinds = arguments if origin is tuple and arguments[-1] is not Ellipsis else arguments[:1]
        return origin([sample(kind, name) for kind in kinds])
    if (arguments and type(None) in arguments) or origin is Union:
        return sample(next(kind for kind in arguments if kind is not type(None)), name)
    values: dict[Any, Any] = {int: 7, float: 1.5, str: f"some {name}", bool: True, Path: Path("/some/path")}
    return values.get(annotation, f"some {name}")


def instance(kind: type[BaseException]) -> BaseException:
    """The exception with every argument given."""
    if kind.__init__ is Exception.__init__ or kind.__init__ is BaseException.__init__:
        return kind("a message that says what to do")
    hints = get_type_hints(kind.__init__)
    positional, named = [], {}
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        value = sample(hints.get(name, str), name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.append(value)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        elif parameter.kind is not parameter.VAR_KEYWORD:
            positional.append(value)
    return kind(*positional, **named)


@pytest.mark.parametrize("kind", exception_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_pickles(kind: type[BaseException]) -> None:
    error = instance(kind)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert str(again) == str(error) != ""
        assert vars(again) == vars(error)


def test_the_walk_finds_them() -> None:
    names = {kind.__name__ for kind in exception_classes()}
    assert {"ConfigError", "NonFiniteGradient", "CorruptStore", "ShardFailed", "TrackingUnavailable"} <= names


def test_exit_codes() -> None:
    """The documented codes, which schedulers act on."""
    from metadist import errors

    codes = {
        kind.__name__: kind.exit_code
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.MetadistError)
    }
    assert codes == {
        "MetadistError": 70,
        "UsageError": 2,
        "DataError": 65,
        "GateRefused": 65,
        "CheckpointDamaged": 65,
        "NonFiniteGradient": 65,
        "ServiceAway": 69,
        "DiskRefused": 69,
        "RunFolderBusy": 75,
        "OwnershipLost": 75,
        "TrackingIncomplete": 76,
        "ConfigError": 78,
        "ModelError": 78,
        "FingerprintMismatch": 78,
    }
    assert (errors.EXIT_DONE, errors.EXIT_BUG, errors.EXIT_INTERRUPTED) == (0, 70, 75)
    assert (errors.EXIT_TRACKING_INCOMPLETE, errors.EXIT_CTRL_C) == (76, 130)


def test_a_non_finite_gradient_names_its_tasks() -> None:
    from metadist.errors import NonFiniteGradient

    text = str(NonFiniteGradient("query_loss", 7, 2, ("train/7/4", "train/7/5")))
    assert "step 7, shard 2" in text and "train/7/4, train/7/5" in text and "nothing was updated" in text
