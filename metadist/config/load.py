"""From a recipe's name, a YAML file and ``--set`` options to a `RunConfig`, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from metadist.config.recipes import recipe_tree
from metadist.config.resolve import FOLLOWING, resolve
from metadist.config.run import RunConfig, import_paths
from metadist.config.strict_yaml import parsed
from metadist.config.wording import problems_of
from metadist.errors import ConfigError


def load_config(
    recipe: str | Path | Mapping[str, Any] | RunConfig, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """The resolved configuration of a shipped recipe, a YAML file or a mapping, with dotted overrides applied. A whole
    section among them, ``{"outer": {...}}``, takes the section's place. In a `RunConfig` what follows from other
    settings follows the overrides.

    Raises:
        ConfigError: it is not valid; or ``algorithm.name`` is to change in a configuration, where the old name's
            switches are set already.

    >>> load_config("sinusoid", {"outer.num_steps": 5}).outer.num_steps
    5
    """
    if isinstance(recipe, RunConfig):
        old, new = recipe.algorithm.name, (overrides or {}).get("algorithm.name", recipe.algorithm.name)
        if new != old:
            raise ConfigError(
                f"algorithm.name: {old!r} has set its switches in this configuration, so that {new!r} would not be "
                "what it says; give the override where the recipe is loaded: load_config(recipe, {...})"
            )
        resolved = recipe.model_dump(mode="json")
        recipe = _unresolved(resolved) if overrides else resolved
    if isinstance(recipe, Mapping):
        tree, label = dict(recipe), "configuration"
    else:
        tree, label = recipe_tree(str(recipe)), str(recipe)
    for path, value in (overrides or {}).items():
        _set(tree, path, value)
    return _finding_code(validated(tree, label), recipe)


def _finding_code(config: RunConfig, recipe: str | Path | Mapping[str, Any]) -> RunConfig:
    """With the folders in which its own modules are found, where it names any, as absolute paths."""
    sent = [] if config.working_dir is None else [str(Path(config.working_dir).expanduser().absolute())]
    if config.code_path or not import_paths(config):
        searched = config.code_path
    else:
        path = None if isinstance(recipe, Mapping) else Path(recipe)
        beside = [path.absolute().parent] if path is not None and path.is_file() else []
        searched = tuple(map(str, [*beside, Path.cwd()]))
    update = {"working_dir": sent[0] if sent else None, "code_path": tuple(dict.fromkeys([*sent, *searched]))}
    return config.model_copy(update=update)


def validated(tree: Mapping[str, Any], label: str) -> RunConfig:
    """Validate a tree of plain values; every problem is told in one `ConfigError`."""
    try:
        return resolve(RunConfig.model_validate(tree))
    except ValidationError as error:
        raise ConfigError(f"{label}: " + "; ".join(problems_of(error, RunConfig))) from None


def parse_overrides(options: Sequence[str]) -> dict[str, Any]:
    """``["outer.lr=0.01"]`` as ``{"outer.lr": 0.01}``; values are YAML. Of a section, ``outer={lr: 0.01}``, the keys
    are set that it names; ``outer={}`` stands for its defaults."""
    found: dict[str, Any] = {}
    for option in options:
        path, equals, value = option.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {option!r} is not of the form a.b=value")
        found.update(_leaves(path.strip(), parsed(value, f"--set {option!r}")))
    return found


def dump(config: RunConfig) -> str:
    """The configuration as YAML, every key written out (``resolved.yaml``)."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _unresolved(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved tree without the values that follow from others, so that they follow what is overridden, too."""
    found = dict(tree)
    for path, unsettled in FOLLOWING.items():
        section, key = path.split(".")
        without = {**found, section: {**found[section], key: unsettled}}
        if validated(without, "configuration").model_dump(mode="json")[section][key] == found[section][key]:
            found = without
    return found


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        node = {} if tree.get(parent) is None else tree[parent]
        if not isinstance(node, Mapping):
            raise ConfigError(f"{path}: {parent} is a value, not a section")
        tree[parent] = tree = dict(node)
    tree[last] = value


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A section as its keys, so that it changes these and no others, as where one recipe extends another."""
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(f"{path}.{key}", item)
