"""Texts in YAML 1.1 and JSON as plain JSON values: objects, lists, strings, numbers, true, false and null.

What JSON cannot hold is refused with the path of its place, and so is a text that is small and means something huge:
aliases are expanded only as long as the limit on the whole allows it. Built from YAML's events, one by one, so that no
nesting exhausts the stack.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from netlab.errors import UsageError

DEEPEST = 200
"""Levels of nesting; no object of Kubernetes has a tenth of it."""

LARGEST_EXPANSION = 4 * 1024 * 1024
"""Characters that the aliases of one text may stand for, all together."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(?P<true>yes|Yes|YES|true|True|TRUE|on|On|ON)|no|No|NO|false|False|FALSE|off|Off|OFF")
_INTEGER = re.compile(r"[-+]?(?:0b[01][01_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*|0[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# YAML 1.1 in the reading of Go's parser, which Kubernetes uses: 1e3 is a number, and 22:22 none to the base of sixty.

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_LINE_START_BOM = re.compile(r"^\ufeff", re.MULTILINE)
_SPACE = re.compile(r"\s*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _WrongError(Exception):
    """`line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def parse(source: str, text: str) -> list[Any]:
    """The values of every document that is not empty; raises `UsageError` that names the source, and the line."""
    # Files joined by cat have the byte order marks of each.
    text = _LINE_START_BOM.sub("", text)
    budget = _Budget(LARGEST_EXPANSION)
    values: list[Any] = []
    try:
        for line, part in _parts(text):
            values += _json(line, part) or _yaml(line, part, budget)
    except _WrongError as error:
        raise UsageError(f"{source}:{error.line}: {error}") from None
    return [value for value in values if value is not None]


def first(text: str) -> tuple[Any, list[tuple[int, str]]]:
    """The first document of a text in YAML, or JSON, and the keys that stand twice in it, each with its line.

    Of those the last counts. Raises `ValueError` with the line.
    """
    doubled: list[tuple[int, str]] = []
    try:
        found = _yaml(1, text, _Budget(LARGEST_EXPANSION), doubled)
    except _WrongError as error:
        raise ValueError(f"line {error.line}: {error}") from None
    return (found[0] if found else None), doubled


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The documents, so that some may be YAML and some JSON, each with the number of its first line."""
    if _DIRECTIVE.search(text):  # belongs to the document after the marker
        yield 1, text
        return
    starts = [0, *(match.start() for match in _MARKER.finditer(text))]
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        yield line, part
        line += part.count("\n")


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json(line: int, text: str) -> list[Any]:
    """The objects, one after another; none if the text is no JSON (YAML has braces, too)."""
    text = text.removeprefix("---")
    place = _next(text, 0)
    if not text.startswith("{", place):
        return []
    values: list[Any] = []
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float)
    while place < len(text):
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if values and text.startswith("{", place):
                raise _WrongError(line + text.count("\n", 0, error.pos), f"it is not JSON: {error.msg}") from None
            return []  # YAML's reader says what is wrong with it, and where.
        except RecursionError:
            raise _WrongError(line + text.count("\n", 0, place), _TOO_DEEP) from None
        except _WrongError as error:
            raise _WrongError(line + text.count("\n", 0, place), str(error)) from None
        if problem := _unfit(value, "", 1):
            raise _WrongError(line + text.count("\n", 0, place), problem)
        values.append(value)
        place = _next(text, end)
    return values


def _next(text: str, place: int) -> int:
    """Where the white space ends that begins at a place."""
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


_TOO_DEEP = f"it is nested more than {DEEPEST} deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _WrongError(0, f"key {twice!r} stands twice")
    return found


def _unfit(value: Any, path: str, depth: int) -> str:
    """What of a JSON text cannot be kept, in words."""
    if isinstance(value, str):
        return f"{path}: half of a surrogate pair is no character" if _SURROGATE.search(value) else ""
    if not isinstance(value, dict | list):
        return ""
    if depth > DEEPEST:
        return _TOO_DEEP
    if isinstance(value, dict):
        inner = ((_below(path, key), item) for key, item in value.items())
        if any(map(_SURROGATE.search, value)):
            return f"{path or 'a key'}: half of a surrogate pair is no character"
    else:
        inner = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    return next(filter(None, (_unfit(item, place, depth + 1) for place, item in inner)), "")


# --- YAML ----------------------------------------------------------------------------------------------------------


class _Budget:
    """How much more may be expanded."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, size: int, line: int) -> None:
        self._left -= size
        if self._left < 0:
            limit = f"{LARGEST_EXPANSION >> 20} MiB"
            raise _WrongError(line, f"its aliases stand for more than {limit}: no manifest is that large")


@dataclasses.dataclass(frozen=True)
class _Whole:
    """A value that has been read, its characters and its levels of nesting."""

    value: Any
    size: int
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class _Key:
    """The key of a mapping: its text, whether that merges, and where it is."""

    text: str
    merges: bool


@dataclasses.dataclass
class _Open:
    """A list or mapping that is being read."""

    value: Any
    anchor: str | None
    size: int = 2
    depth: int = 1
    key: _Key | None = None
    merged: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def _yaml(first_line: int, text: str, budget: _Budget, doubled: list[tuple[int, str]] | None = None) -> list[Any]:
    builder = _Builder(first_line, budget, doubled)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = first_line + (error.problem_mark.line if error.problem_mark else 0)
        raise _WrongError(line, error.problem or "it is not YAML") from None
    except yaml.YAMLError as error:
        raise _WrongError(first_line, f"it is not YAML: {str(error).splitlines()[0]}") from None
    return builder.documents


class _Builder:
    def __init__(self, first_line: int, budget: _Budget, doubled: list[tuple[int, str]] | None) -> None:
        self.documents: list[Any] = []
        self._doubled = doubled
        self._first_line = first_line
        self._budget = budget
        self._open: list[_Open] = []
        self._anchors: dict[str, _Whole] = {}
        self._line = first_line

    def take(self, event: yaml.Event) -> None:
        assert event.start_mark is not None
        self._line = self._first_line + event.start_mark.line
        if isinstance(event, yaml.ScalarEvent):
            if self._awaits_key():
                self._open[-1].key = self._key(event)
                return
            whole = _Whole(self._scalar(event), len(event.value) + 1)
            self._anchor(event.anchor, whole)
            self._put(whole)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}{'map' if is_mapping else 'seq'}"):
            raise self._wrong(f"the tag {_short(event.tag)} means nothing in JSON")
        if self._awaits_key():
            raise self._wrong("a list or mapping cannot be a key")
        if len(self._open) >= DEEPEST:
            raise _WrongError(self._line, _TOO_DEEP)
        self._anchors.pop(event.anchor or "", None)
        self._open.append(_Open({} if is_mapping else [], event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        for merged in done.merged:  # what is its own, and then what is merged first, has precedence
            done.value = merged | done.value
        whole = _Whole(done.value, done.size, done.depth)
        self._anchor(done.anchor, whole)
        self._put(whole)

    def _alias(self, name: str) -> None:
        if any(each.anchor == name for each in self._open) and name not in self._anchors:
            raise self._wrong(f"the alias *{name} stands within what it names")
        if name not in self._anchors:
            raise self._wrong(f"there is no anchor &{name} before the alias *{name}")
        named = self._anchors[name]
        if self._awaits_key():
            if not isinstance(named.value, str):
                raise self._wrong(f"the alias *{name} is not a text, and cannot be a key")
            self._open[-1].key = self._new_key(named.value)
            return
        if len(self._open) + named.depth > DEEPEST:
            raise _WrongError(self._line, _TOO_DEEP)
        self._budget.take(named.size, self._line)
        self._put(dataclasses.replace(named, value=copy.deepcopy(named.value)))

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _key(self, event: yaml.ScalarEvent) -> _Key:
        plain = event.implicit[0]
        if event.value == "<<" and (plain or event.tag == f"{_TAG}merge"):
            return _Key("<<", merges=True)
        value = self._scalar(event)
        # A whole number may be a key, if it is written as it is read.
        if not isinstance(value, str) and (type(value) is not int or str(value) != event.value):
            means = json.dumps(value)
            raise self._wrong(f"the key {event.value or 'without a text'} means {means}: put it in quotes")
        key = self._new_key(str(value))
        self._anchor(event.anchor, _Whole(key.text, len(key.text) + 1))
        return key

    def _new_key(self, text: str) -> _Key:
        if text in self._open[-1].value:
            if self._doubled is None:
                raise self._wrong(f"key {text!r} stands twice")
            self._doubled.append((self._line, text))
        return _Key(text, merges=False)

    def _put(self, whole: _Whole) -> None:
        value = whole.value
        if not self._open:
            self.documents.append(value)
            return
        place = self._open[-1]
        place.size += whole.size
        place.depth = max(place.depth, whole.depth + 1)
        if isinstance(place.value, list):
            place.value.append(value)
            return
        assert place.key is not None
        if place.key.merges:
            place.merged += self._mappings(value)
        else:
            place.value[place.key.text] = value
            place.size += len(place.key.text) + 1
        place.key = None

    def _mappings(self, value: Any) -> list[dict[str, Any]]:
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in listed):
            raise self._wrong("<< merges a mapping, or a list of mappings")
        return listed

    def _anchor(self, name: str | None, whole: _Whole) -> None:
        if name is not None:
            self._anchors[name] = whole

    # --- scalars ---------------------------------------------------------------------------------------------------

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is None:
            return self._resolved(text) if event.implicit[0] else text
        if tag in ("!", f"{_TAG}str"):
            return text
        wanted: dict[str, Callable[[Any], bool]] = {
            f"{_TAG}int": lambda value: type(value) is int,
            f"{_TAG}float": lambda value: type(value) in (int, float),
            f"{_TAG}bool": lambda value: type(value) is bool,
            f"{_TAG}null": lambda value: value is None,
        }
        if tag not in wanted:
            raise self._wrong(f"the tag {_short(tag)} means nothing in JSON")
        value = self._resolved(text)
        if not wanted[tag](value):
            raise self._wrong(f"{text[:40]!r} is not a valid {_short(tag)}")
        return value

    def _resolved(self, text: str) -> Any:
        """What a text without quotes means."""
        if _NULL.fullmatch(text):
            return None
        if match := _BOOL.fullmatch(text):
            return match["true"] is not None
        try:
            if _INTEGER.fullmatch(text):
                return _integer(text.replace("_", ""))
            if _FLOAT.fullmatch(text) or _NO_NUMBER.fullmatch(text):
                return _float(text.replace("_", ""))
        except _WrongError as error:
            raise self._wrong(str(error)) from None
        return text

    def _wrong(self, problem: str) -> _WrongError:
        path = ""
        for each in self._open:
            if isinstance(each.value, list):
                path += f"[{len(each.value)}]"
            elif each.key is not None:
                path = _below(path, each.key.text)
        return _WrongError(self._line, f"{path}: {problem}" if path else problem)


def _integer(text: str) -> int:
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits[:1] == "0" and len(digits) > 1 else 10)
    # At most 64 bits, signed or not: longer than any such number is no number (Python counts decimal digits slowly).
    value = int(digits[2:] if base != 10 and digits[1] in "xbo" else digits, base) if len(digits) <= 70 else 1 << 64
    value = -value if text.startswith("-") else value
    if not -(1 << 63) <= value < 1 << 64:
        raise _WrongError(0, f"the number {text[:24]}{'...' if len(text) > 24 else ''} has more than 64 bits")
    return value


def _float(text: str) -> float | int:
    value = float("nan" if text.strip("+-").lower() in (".nan", "nan", ".inf", "infinity") else text)
    if not -1.8e308 < value < 1.8e308:
        raise _WrongError(0, f"{text[:24]} is no number in JSON")
    # As Go writes it: 3.0 and 1e1 are whole.
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!", 1)[:60]
