"""A row filter as text: ``COL op VALUE [and|or ...]``, with brackets; never evaluated as code.

Operators: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``is missing``, ``is not missing``. ``and`` binds tighter than
``or``. Values with blanks stand in single or double quotes, column names with blanks in backticks. A value is read as
the column's own type. As in SQL a comparison with a missing value is not true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks_store.errors import ImportFailed

_TOKEN = re.compile(r"""\s*(<=|>=|!=|==|=|<|>|\(|\)|`[^`]*`|'[^']*'|"[^"]*"|[^\s<>=!()'"`]+)""")
_NUMBER = re.compile(r"[-+.\d]+")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = (
    "expected COLUMN op VALUE [and|or ...] with op one of =, !=, <, <=, >, >=, 'is missing', 'is not missing'; "
    "values with blanks stand in quotes, column names with blanks in backticks"
)


def parse_where(text: str, schema: Any) -> tuple[Any, frozenset[str]]:
    """The filter as a pyarrow compute expression, and the columns that it reads.

    Args:
        text: the filter.
        schema: of the table, a pyarrow Schema; dictionary types count as their values.

    Raises:
        ImportFailed: not of that form, no such column, or a value that is not of the column's type.

    Example:
        >>> parse_where("year >= 2014", pa.schema({"year": pa.int16(), "wd": pa.string()}))
        (<pyarrow.compute.Expression (year >= 2014)>, frozenset({'year'}))
    """
    parser = _Parser(text, schema)
    return parser.whole(), frozenset(parser.columns)


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str, schema: Any) -> None:
        self.text, self.schema, self.place = text, schema, 0
        self.tokens: list[str] = []
        self.columns: set[str] = set()
        end = 0
        while text[end:].strip():
            found = _TOKEN.match(text, end)
            if found is None:
                raise self.refused(f"cannot read {text[end:].strip()!r}")
            self.tokens.append(found[1])
            end = found.end()

    def refused(self, why: str) -> ImportFailed:
        return ImportFailed(f"--where {self.text!r}: {why}; {_FORM}")

    def take(self, what: str) -> str:
        if self.place == len(self.tokens):
            raise self.refused(f"ends where {what} should stand")
        self.place += 1
        return self.tokens[self.place - 1]

    def operand(self, what: str) -> str:
        token = self.take(what)
        if token in _OPERATORS or token in "()":
            raise self.refused(f"{token!r} stands where {what} should")
        return token

    def accept(self, word: str) -> bool:
        found = self.place < len(self.tokens) and self.tokens[self.place].lower() == word
        self.place += found
        return found

    def whole(self) -> Any:
        expression = self.either()
        if self.place < len(self.tokens):
            raise self.refused(f"{self.tokens[self.place]!r} stands where 'and' or 'or' should")
        return expression

    def either(self) -> Any:
        expression = self.both()
        while self.accept("or"):
            expression = expression | self.both()
        return expression

    def both(self) -> Any:
        expression = self.one()
        while self.accept("and"):
            expression = expression & self.one()
        return expression

    def one(self) -> Any:
        if self.accept("("):
            expression = self.either()
            if not self.accept(")"):
                raise self.refused("a bracket is not closed")
            return expression
        name = self.operand("a column").strip("`")
        if name not in self.schema.names:
            raise self.refused(f"there is no column {name!r}; there are {', '.join(self.schema.names)}")
        self.columns.add(name)
        if self.accept("is"):
            present = self.accept("not")
            if not self.accept("missing"):
                raise self.refused("after 'is' stands 'missing' or 'not missing'")
            missing = pc.field(name).is_null(nan_is_null=pa.types.is_floating(self.schema.field(name).type))
            return ~missing if present else missing
        word = self.take("an operator")
        if word not in _OPERATORS:
            raise self.refused(f"{word!r} is no operator")
        return _OPERATORS[word](pc.field(name), self.value(name, ordered=word[0] in "<>"))

    def value(self, name: str, *, ordered: bool) -> Any:
        token = self.operand("a value")
        text = token[1:-1] if token[0] in "'\"" else token
        kind = self.schema.field(name).type
        if ordered and pa.types.is_string(kind) and text == token and _NUMBER.fullmatch(token):
            raise ImportFailed(
                f"--where {self.text!r}: {name!r} is text (as columns that name groups in CSV are), and as text 9 is "
                f"more than 10: use = or !=, or quote the value ('{token}') to compare as text"
            )
        try:
            return pa.scalar(text).cast(kind)
        except (pa.ArrowException, ValueError) as error:
            raise self.refused(f"{text!r} is not a value of {name!r}, which is {kind}") from error
