"""Recipes as trees of plain values: shipped ones and YAML files, and how one extends another."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from metadist.config.strict_yaml import parsed
from metadist.config.wording import did_you_mean
from metadist.errors import ConfigError

SUFFIXES = (".yaml", ".yml")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("metadist") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a shipped recipe.

    Raises:
        ConfigError: there is none of that name.
    """
    names = recipe_names()
    if name not in names:
        raise ConfigError(f"there is no recipe {name!r}{did_you_mean(name, names)} (`metadist recipes` lists them)")
    return (resources.files("metadist") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def recipe_tree(recipe: str) -> dict[str, Any]:
    """A recipe, by its name or its file, merged into what it extends.

    Raises:
        ConfigError: it cannot be read, is no mapping of sections, or extends itself.
    """
    path = Path(recipe)
    return _tree(path if path.suffix in SUFFIXES or "/" in recipe else recipe, recipe, ())


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``over``, sections key by key; a section that is null in ``over`` has its defaults."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _tree(recipe: Path | str, label: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Of a file (a path) or a shipped recipe (a name), called ``label`` in messages."""
    identity = str(recipe.absolute().resolve()) if isinstance(recipe, Path) else recipe
    if identity in seen:
        raise ConfigError(f"recipes extend each other in a circle: {' -> '.join((*seen, identity))}")
    tree = parsed(_text(recipe, label), label)
    if not isinstance(tree, dict):
        raise ConfigError(f"{label}: a recipe is a mapping of sections, not {type(tree).__name__}")
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{label}: extends: needs one recipe's name or YAML file (got {base!r})")
    beside = recipe.parent / base if isinstance(recipe, Path) else None
    is_file = Path(base).suffix in SUFFIXES or "/" in base
    found = beside if beside is not None and beside.is_file() else Path(base) if is_file else base
    return merge(_tree(found, str(found), (*seen, identity)), tree)


def _text(recipe: Path | str, label: str) -> str:
    if isinstance(recipe, Path):
        try:
            return recipe.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{label}: there is no such file") from None
        except OSError as error:
            raise ConfigError(f"{label}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{label}: not UTF-8 text (byte {error.object[error.start]:#04x} at position {error.start}); "
                "save it as UTF-8"
            ) from None
    if recipe not in recipe_names():
        for path in (recipe, *(recipe + suffix for suffix in SUFFIXES)):
            if Path(path).is_file():
                raise ConfigError(
                    f"there is no recipe {recipe!r}, but a file of that name is here: write ./{path} to use it"
                )
    return recipe_text(recipe)
