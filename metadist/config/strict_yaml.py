"""YAML as people mean it: a key that is there twice is a mistake, and ``1e-3`` is a number."""

from __future__ import annotations

from typing import Any

import yaml

from metadist.errors import ConfigError


def parsed(text: str, label: str) -> Any:
    """The value that ``text`` stands for.

    Raises:
        ConfigError: it is not YAML, or a key is there twice; ``label`` says of which text.
    """
    try:
        return _numbers(yaml.load(text, _Loader))
    except _KeyTwice as error:
        raise ConfigError(f"{label}: {error}") from None
    except ValueError as error:  # 2024-02-30
        raise ConfigError(f"{label}: a value cannot be read ({error}); put it in quotes") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{label}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{label}: a value contains itself, or is nested too deeply") from None


class _KeyTwice(ValueError):
    """In one mapping."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise _KeyTwice(
                    f"the key {key.value!r} is there twice, in line {lines[name]} and in line {line}; keep one"
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


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
