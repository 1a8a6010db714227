"""Label selectors: the text form (`app=web,tier in (front, back),!debug`) and metav1.LabelSelector, matched to labels.

The grammar and the meaning are Kubernetes' (apimachinery pkg/labels/selector.go): requirements are joined by "and";
`!=` and `notin` also hold when the key is absent; the empty selector holds for everything.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from netlab.api.meta_types import LabelSelector
from netlab.errors import UsageError

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_KEY = re.compile(rf"(?:(?P<prefix>{_LABEL}(?:\.{_LABEL})*)/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_TOKEN = re.compile(r"\s*(?:(?P<symbol>==|!=|[=!<>(),])|(?P<word>[^\s=!<>(),]+))")
_LONGEST_PREFIX = 253

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # of 64 bits, as upstream, nearly


def is_label_key(key: str) -> bool:
    """Whether it is a valid label key: an optional DNS-1123 prefix and `/`, then at most 63 characters."""
    match = _KEY.fullmatch(key)
    return match is not None and len(match["prefix"] or "") <= _LONGEST_PREFIX


def is_label_value(value: str) -> bool:
    """Whether it is a valid label value: empty, or at most 63 characters that begin and end alphanumeric."""
    return _VALUE.fullmatch(value) is not None


def is_integer(value: str) -> bool:
    """Whether it is what Gt and Lt compare."""
    return _INTEGER.fullmatch(value) is not None


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One condition; operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        # A label that is not an integer meets neither Gt nor Lt (labels.Requirement.Matches).
        if value is None or not _INTEGER.fullmatch(value):
            return False
        (bound,) = self.values
        if not _INTEGER.fullmatch(bound):
            return False
        return int(value) > int(bound) if self.operator == "Gt" else int(value) < int(bound)

    def __str__(self) -> str:
        values = ",".join(sorted(self.values))
        match self.operator:
            case "In" | "NotIn":
                return f"{self.key} {self.operator.lower()} ({values})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case _:
                return f"{self.key}{'>' if self.operator == 'Gt' else '<'}{values}"


@dataclasses.dataclass(frozen=True)
class Selector:
    """All of the requirements must hold; none means everything is selected. `str()` parses back to the same."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the selector matches the labels."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
"""Selects every object."""


def from_labels(labels: Mapping[str, str]) -> Selector:
    """The selector of a plain map, such as a Service's: every label must have that value."""
    return Selector(tuple(Requirement(key, "In", frozenset((value,))) for key, value in labels.items()))


def from_label_selector(selector: LabelSelector) -> Selector:
    """The selector for a metav1.LabelSelector. Raises `UsageError` for an invalid operator or values."""
    listed = []
    for item in selector.matchExpressions:
        if item.operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise UsageError(f'"{item.operator}" is not a valid label selector operator; use In, NotIn or Exists')
        if bool(item.values) != (item.operator in ("In", "NotIn")):
            need = "needs values" if item.operator in ("In", "NotIn") else "takes no values"
            raise UsageError(f'label selector for "{item.key}": operator {item.operator} {need}')
        listed.append(_requirement(item.key, item.operator, item.values))
    return Selector(from_labels(selector.matchLabels).requirements + tuple(listed))


def parse(text: str) -> Selector:
    """The selector for a text in the form of `kubectl -l`. Raises `UsageError` if it is malformed."""
    tokens = _Tokens(text)
    if tokens.done:
        return EVERYTHING
    requirements = [_parse_requirement(tokens)]
    while tokens.take(","):
        requirements.append(_parse_requirement(tokens))
    tokens.expect_end()
    return Selector(tuple(requirements))


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text = text
        self._items = [(match["symbol"] or "", match["word"] or "") for match in _TOKEN.finditer(text)]
        self._next = 0

    @property
    def done(self) -> bool:
        return self._next == len(self._items)

    @property
    def symbol(self) -> str:
        return "" if self.done else self._items[self._next][0]

    @property
    def peek(self) -> str:
        return "" if self.done else "".join(self._items[self._next])

    def take(self, *symbols: str) -> bool:
        """Skip the next token if it is one of the symbols."""
        taken = self.symbol in symbols and not self.done
        self._next += taken
        return taken

    def expect(self, symbol: str) -> None:
        if not self.take(symbol):
            raise self.error(f"'{symbol}'")

    def expect_end(self) -> None:
        if not self.done:
            raise self.error("','")

    def word(self, what: str) -> str:
        if self.done or self.symbol:
            raise self.error(what)
        self._next += 1
        return self._items[self._next - 1][1]

    def optional_word(self) -> str:
        return "" if self.done or self.symbol else self.word("")

    def error(self, expected: str) -> UsageError:
        found = f"'{self.peek}'" if not self.done else "its end"
        return UsageError(f'unable to parse label selector "{self._text}": found {found}, expected {expected}')


def _parse_requirement(tokens: _Tokens) -> Requirement:
    if tokens.take("!"):
        return _requirement(tokens.word("a label's key"), "DoesNotExist", ())
    key = tokens.word("a label's key")
    if tokens.done or tokens.symbol == ",":
        return _requirement(key, "Exists", ())
    if tokens.take("=", "=="):
        return _requirement(key, "In", (tokens.optional_word(),))
    if tokens.take("!="):
        return _requirement(key, "NotIn", (tokens.optional_word(),))
    for symbol, operator in ((">", "Gt"), ("<", "Lt")):
        if tokens.take(symbol):
            return _requirement(key, operator, (tokens.word("an integer"),))
    if tokens.peek not in ("in", "notin"):
        raise tokens.error("one of '=', '==', '!=', 'in', 'notin', '<', '>', ','")
    operator = "In" if tokens.word("") == "in" else "NotIn"
    tokens.expect("(")
    values = [tokens.optional_word()]
    while tokens.take(","):
        values.append(tokens.optional_word())
    tokens.expect(")")
    return _requirement(key, operator, values)


def _requirement(key: str, operator: str, values: list[str] | tuple[str, ...]) -> Requirement:
    if not is_label_key(key):
        raise UsageError(f'label selector: "{key}" is not a valid label key')
    if operator in ("Gt", "Lt"):
        if not _INTEGER.fullmatch(values[0]):
            raise UsageError(f'label selector for "{key}": "{values[0]}" is not an integer')
    elif bad := next((value for value in values if not is_label_value(value)), None):
        raise UsageError(f'label selector for "{key}": "{bad}" is not a valid label value')
    return Requirement(key, operator, frozenset(values))
