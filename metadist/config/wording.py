"""Mistakes in a configuration in plain words, each in one line: which key, what fits, what was given."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MAX_GIVEN = 80  # characters of a value in a message
WHOLE, NUMBER = "needs a whole number", "needs a number"
WORDS = {  # pydantic's names of what is wrong
    "missing": "this key is needed",
    "model_type": "is a section of keys, {key: value}",
    "dict_type": "is a section of keys, {key: value}",
    "string_type": "needs text (in quotes where YAML reads something else)",
    "bool_type": "needs true or false",
    "bool_parsing": "needs true or false",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": "is too large a number",
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "needs a finite number",
    "tuple_type": "needs a list, [a, b]",
    "invalid_key": "keys are text (in quotes where YAML reads something else)",
}


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A hint to the closest of the known words; empty where none is close.

    >>> did_you_mean("sinusoids", ["glyphs", "sinusoid"])
    "; did you mean 'sinusoid'?"
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def problems_of(error: ValidationError, section: type[BaseModel]) -> Iterator[str]:
    """A line for each key of ``section`` that is wrong."""
    told: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for problem in error.errors():
        where, inner = _where(problem["loc"], section)
        wrong = str(problem["loc"][-1]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            known = list(inner.model_fields)
            hint = f"{did_you_mean(wrong, known)} (known: {', '.join(known) or 'none'})"
            told[f"{where}.{wrong}" if where else wrong] = [f"there is no such key{hint}"]
            continue
        words = _words(problem)
        if words not in told.setdefault(where, []):
            told[where].append(words)
        if where and problem["type"] not in ("missing", "literal_error") and not isinstance(problem["input"], dict):
            shown = repr(problem["input"])
            given[where] = f" (got {shown if len(shown) <= MAX_GIVEN else shown[:MAX_GIVEN] + '...'})"
    for where, words_of_it in told.items():
        yield f"{where}: {', or '.join(words_of_it)}{given.get(where, '')}".removeprefix(": ")


def _words(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        if str(problem["loc"][-1]).startswith("literal["):  # one of several alternatives
            return ", ".join(known)
        return (
            f"{problem['input']!r} is not known{did_you_mean(str(problem['input']), known)} (known: {', '.join(known)})"
        )
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return "a value is missing from this list"
    message: str = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return WORDS.get(problem["type"], message)


def _where(location: tuple[int | str, ...], section: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The dotted key, without the names that pydantic gives to alternatives, and the section that it lies in."""
    parts: list[str] = []
    inside: type[BaseModel] | None = section
    for part in location:
        field = inside.model_fields.get(part) if inside is not None and isinstance(part, str) else None
        if field is not None:
            parts.append(str(part))
            found = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)]
            section, inside = (found[0], found[0]) if found else (section, None)
        elif isinstance(part, int):
            parts.append(str(part))
    return ".".join(parts), section


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
