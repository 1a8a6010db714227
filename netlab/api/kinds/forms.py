"""The messages that JSON writes in a form of its own: times, quantities, raw JSON, and what is one type or another.

Each form reads a protobuf message into a JSON value and writes one into a message. Both raise `ValueError`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import math
import re
from typing import Any, Protocol

import msgspec

ABSENT = object()
"""No value: the field is left out."""

MAGIC = b"k8s\0"
"""What every object in protobuf begins with."""


class Convert(Protocol):
    """How the messages within a message are converted: read one, and write one."""

    def read(self, name: str, message: Any) -> Any:
        """The JSON value of a message of the table."""

    def write(self, name: str, value: Any, message: Any) -> None:
        """Fill a message of the table."""

    def read_whole(self, data: bytes) -> Any:
        """The JSON value of an object that begins with `MAGIC`."""


class Form:
    """A form in JSON."""

    def read(self, message: Any, convert: Convert) -> Any:
        """The JSON value, or `ABSENT`."""
        raise NotImplementedError

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        """Fill the message."""
        raise NotImplementedError

    def is_zero(self, value: Any) -> bool:
        """Whether Go leaves the value out of a field that need not be there."""
        return False


# --- times ---------------------------------------------------------------------------------------------------------

_EPOCH = datetime.datetime(1970, 1, 1)
_MICRO = datetime.timedelta(microseconds=1)
_MOST_SECONDS = 253402300800
"""Until the year 10000, which RFC 3339 cannot write."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d{1,18}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> tuple[int, int]:
    """Seconds since the epoch and nanoseconds, of RFC 3339. Raises `ValueError`."""
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError(f'"{text[:64]}" is not a time: RFC 3339 writes 2006-01-02T15:04:05Z')
    whole, fraction, zone = found.groups()
    moment = datetime.datetime.fromisoformat(f"{whole.upper()}{'+00:00' if zone in 'Zz' else zone}")
    seconds = moment.replace(tzinfo=None) - _EPOCH - (moment.utcoffset() or datetime.timedelta())
    return seconds // datetime.timedelta(seconds=1), int((fraction or "0")[:9].ljust(9, "0"))


class _Time(Form):
    """metav1.Time and metav1.MicroTime; their zero is a message without fields."""

    def __init__(self, *, micro: bool) -> None:
        self._micro = micro

    def read(self, message: Any, convert: Convert) -> Any:
        seconds, nanos = message.f1, message.f2
        if not message.HasField("f1") and not nanos:
            return ABSENT
        if not -62135596800 <= seconds < _MOST_SECONDS or not 0 <= nanos < 10**9:
            raise ValueError(f"{seconds} s and {nanos} ns after 1970 is not a time")
        moment = _EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000 if self._micro else 0)
        return moment.isoformat(timespec="microseconds" if self._micro else "seconds") + "Z"

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        if value:
            seconds, nanos = parse_time(value)
            message.f1, message.f2 = seconds, nanos // 1000 * 1000 if self._micro else 0


_DURATION = re.compile(r"([+-]?)((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:h|ms|us|µs|μs|ns|m|s))+|0", re.ASCII)
_SPAN = re.compile(r"([0-9.]+)(h|ms|us|µs|μs|ns|m|s)", re.ASCII)
_NANOSECONDS = {
    "ns": 1,
    **dict.fromkeys(("us", "µs", "μs"), 10**3),
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_duration(text: str) -> int:
    """Nanoseconds, of a duration as Go writes it: `1m30s`, `14.5s`. Raises `ValueError`."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text[:64]}" is not a duration, such as 1m30s')
    spans = (decimal.Decimal(number) * _NANOSECONDS[unit] for number, unit in _SPAN.findall(text))
    nanoseconds = int(sum(spans))
    return -nanoseconds if text.startswith("-") else nanoseconds


def format_duration(nanoseconds: int) -> str:
    """As Go writes it (time.Duration.String)."""
    sign, rest = "-" if nanoseconds < 0 else "", abs(nanoseconds)
    if rest < 10**9:
        unit = next(unit for unit in ("ms", "µs", "ns") if rest >= _NANOSECONDS[unit] or unit == "ns")
        return f"{sign}{_decimal(rest, _NANOSECONDS[unit])}{unit}" if rest else "0s"
    minutes, rest = divmod(rest, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{before}{_decimal(rest, 10**9)}s"


def _decimal(amount: int, unit: int) -> str:
    whole, fraction = divmod(amount, unit)
    return f"{whole}.{fraction:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".") if fraction else str(whole)


class _Duration(Form):
    """metav1.Duration."""

    def read(self, message: Any, convert: Convert) -> Any:
        return format_duration(message.f1)

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        message.f1 = parse_duration(value)


# --- quantities and ports ------------------------------------------------------------------------------------------


class _Quantity(Form):
    def read(self, message: Any, convert: Convert) -> Any:
        return message.f1 or "0"

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        message.f1 = str(value)


class _IntOrString(Form):
    def read(self, message: Any, convert: Convert) -> Any:
        if message.f1 not in (0, 1):
            raise ValueError(f"{message.f1} is neither a number's type (0) nor a text's (1)")
        return message.f3 if message.f1 else message.f2

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        if isinstance(value, str):
            message.f1, message.f3 = 1, value
        else:
            message.f1, message.f2 = 0, value

    def is_zero(self, value: Any) -> bool:
        return type(value) is int and value == 0


# --- JSON within protobuf ------------------------------------------------------------------------------------------


class _Raw(Form):
    """runtime.RawExtension, metav1.FieldsV1 and apiextensions' JSON."""

    def read(self, message: Any, convert: Convert) -> Any:
        raw: bytes = message.f1
        if not raw:
            return ABSENT
        return convert.read_whole(raw) if raw.startswith(MAGIC) else msgspec.json.decode(raw)

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        message.f1 = msgspec.json.encode(value)


# --- either one or another -----------------------------------------------------------------------------------------

_PROPS = "apiextensions.v1.JSONSchemaProps"


def _write_schema(value: dict[str, Any], message: Any, convert: Convert) -> None:
    message.SetInParent()  # An empty schema differs from none.
    convert.write(_PROPS, value, message)


class _SchemaOr(Form):
    """apiextensions' JSONSchemaPropsOrArray and JSONSchemaPropsOrStringArray: field 1 is the schema, 2 the list."""

    def __init__(self, *, of_texts: bool) -> None:
        self._of_texts = of_texts

    def read(self, message: Any, convert: Convert) -> Any:
        if message.HasField("f1"):
            return convert.read(_PROPS, message.f1)
        return list(message.f2) if self._of_texts else [convert.read(_PROPS, each) for each in message.f2]

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        if isinstance(value, dict):
            _write_schema(value, message.f1, convert)
        elif self._of_texts:
            message.f2.extend(value)
        else:
            for each in value:
                convert.write(_PROPS, each, message.f2.add())


class _SchemaOrBool(Form):
    def read(self, message: Any, convert: Convert) -> Any:
        return convert.read(_PROPS, message.f2) if message.HasField("f2") else message.f1

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        if isinstance(value, dict):
            message.f1 = True
            _write_schema(value, message.f2, convert)
        else:
            message.f1 = value


class _Texts(Form):
    """A list that is a message, so that protobuf can tell an empty one from none."""

    def read(self, message: Any, convert: Convert) -> Any:
        return list(message.f1)

    def write(self, value: Any, message: Any, convert: Convert) -> None:
        message.f1.extend(value)


LISTS = (
    "meta.v1.Verbs",
    "authentication.v1.AttestationValue",
    "authentication.v1.ExtraValue",
    "authorization.v1.ExtraValue",
    "certificates.v1.ExtraValue",
)
"""Messages that JSON writes as lists of texts."""

FORMS: dict[str, Form] = {
    "meta.v1.Time": _Time(micro=False),
    "meta.v1.MicroTime": _Time(micro=True),
    "meta.v1.Duration": _Duration(),
    "resource.Quantity": _Quantity(),
    "intstr.IntOrString": _IntOrString(),
    "runtime.RawExtension": _Raw(),
    "meta.v1.FieldsV1": _Raw(),
    "apiextensions.v1.JSON": _Raw(),
    "apiextensions.v1.JSONSchemaPropsOrArray": _SchemaOr(of_texts=False),
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _SchemaOr(of_texts=True),
    "apiextensions.v1.JSONSchemaPropsOrBool": _SchemaOrBool(),
    **dict.fromkeys(LISTS, _Texts()),
}


# --- bytes ---------------------------------------------------------------------------------------------------------


def read_bytes(data: bytes) -> str:
    """As JSON has bytes: base64."""
    return base64.b64encode(data).decode()


def write_bytes(text: str) -> bytes:
    """Raises `ValueError`."""
    # Go passes over line breaks, and over nothing else.
    return binascii.a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)


def check_number(value: float) -> float:
    """JSON has neither infinity nor NaN."""
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value
