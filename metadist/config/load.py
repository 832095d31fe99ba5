"""From a recipe's name, a YAML file and ``--set`` options to a `RunConfig`, and back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from metadist.config.resolve import resolve
from metadist.config.run import RunConfig, import_paths
from metadist.errors import ConfigError


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("metadist") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a shipped recipe."""
    if name not in recipe_names():
        raise ConfigError(f"there is no recipe {name!r}{_hint(name, recipe_names())}; `metadist recipes` lists them")
    return (resources.files("metadist") / "recipes" / f"{name}.yaml").read_text()


def load_config(
    recipe: str | Path | Mapping[str, Any] | RunConfig, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """The resolved configuration of a shipped recipe, a YAML file or a mapping, with dotted overrides applied.

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
        recipe = recipe.model_dump(mode="json")
    tree, label = (dict(recipe), "configuration") if isinstance(recipe, Mapping) else _load_tree(str(recipe))
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
        raise ConfigError(f"{label}: " + "; ".join(_problems(error))) from None


def parse_overrides(options: Sequence[str]) -> dict[str, Any]:
    """``["outer.lr=0.01"]`` as ``{"outer.lr": 0.01}``; values are YAML."""
    parsed: dict[str, Any] = {}
    for option in options:
        path, equals, value = option.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {option!r} is not of the form a.b=value")
        try:
            parsed[path.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {option!r}: the value is not YAML ({str(error).splitlines()[0]})") from None
    return parsed


def dump(config: RunConfig) -> str:
    """The configuration as YAML, every key written out (``resolved.yaml``)."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _load_tree(recipe: str, seen: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    if recipe in seen:
        raise ConfigError(f"recipes extend each other in a circle: {' -> '.join((*seen, recipe))}")
    path = Path(recipe)
    is_file = path.suffix in (".yaml", ".yml") or "/" in recipe
    if is_file and not path.is_file():
        raise ConfigError(f"{recipe}: there is no such file")
    text = path.read_text() if is_file else recipe_text(recipe)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{recipe}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{recipe}: a recipe is a mapping of sections, not {type(tree).__name__}")
    tree = _numbers(tree)
    base = tree.pop("extends", None)
    if base is None:
        return tree, recipe
    beside = path.parent / base
    parent, _ = _load_tree(str(beside) if is_file and beside.is_file() else str(base), (*seen, recipe))
    return _merge(parent, tree), recipe


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both and isinstance(old, dict) else value
    return merged


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean the number."""
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else _number(value)


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        node = tree.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{path}: {parent} is a value, not a section")
        tree[parent] = tree = dict(node)
    tree[last] = value


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            *parents, wrong = [part for part in problem["loc"] if isinstance(part, str)]
            known = _fields(parents)
            yield f"{where}: there is no such key{_hint(wrong, known)} (known: {', '.join(known)})"
        elif problem["type"] == "missing":
            yield f"{where}: this key is needed"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            at = f"{where}: " if where else ""
            given = f" (got {problem['input']!r})" if where and not isinstance(problem["input"], dict) else ""
            yield f"{at}{message}{given}"


def _fields(parents: Sequence[str]) -> list[str]:
    section: Any = RunConfig
    for parent in parents:
        field = section.model_fields.get(parent)
        section = field.annotation if field is not None else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return []
    return list(section.model_fields)


def _hint(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
