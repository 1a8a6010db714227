"""What the `format` of a string may promise: those that Kubernetes checks (kube-openapi pkg/validation/strfmt)."""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit


def _matches(pattern: str, flags: int = 0) -> Callable[[str], bool]:
    # None of these can take long: no part that repeats holds another.
    compiled = re.compile(pattern, flags | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _succeeds(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _uuid(version: str, variant: str = "[0-9a-f]") -> Callable[[str], bool]:
    return _matches(f"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}", re.IGNORECASE)


def _is_isbn10(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "").upper()
    if not re.fullmatch("[0-9]{9}[0-9X]", digits):
        return False
    values = [10 if each == "X" else int(each) for each in digits]
    return sum(weight * value for weight, value in zip(range(10, 0, -1), values, strict=True)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if not re.fullmatch("[0-9]{13}", digits):
        return False
    return sum(int(each) * (3 if index % 2 else 1) for index, each in enumerate(digits)) % 10 == 0


def _is_credit_card(text: str) -> bool:
    digits = re.sub("[^0-9]", "", text)
    known = re.fullmatch(
        "4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
        "|3(0[0-5]|[68][0-9])[0-9]{11}|(2131|1800|35[0-9]{3})[0-9]{11}",
        digits,
    )
    doubled = (int(each) * (1 + index % 2) for index, each in enumerate(reversed(digits)))
    return known is not None and sum(each // 10 + each % 10 for each in doubled) % 10 == 0


def _is_uri(text: str) -> bool:
    # As Go's url.ParseRequestURI: absolute, or a path.
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    is_plain = text.isprintable() and " " not in text
    return is_plain and (bool(parts.scheme and (parts.netloc or parts.path)) or text.startswith("/"))


def _is_cidr(text: str) -> bool:
    return "/" in text and "%" not in text and _succeeds(lambda each: ipaddress.ip_network(each, strict=False))(text)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


_DATE_TIME = _matches(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _is_date_time(text: str) -> bool:
    return _DATE_TIME(text) and _succeeds(datetime.date.fromisoformat)(text[:10])


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_UNIT = "(ns|us|µs|μs|ms|s|m|h)"

FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _matches("[0-9a-fA-F]{24}"),
    "uri": _is_uri,
    "email": _matches(r"(.+<)?[^@<>\s]+@[^@<>\s]+>?"),
    "hostname": _matches(r"[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,62})(\.[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,62}))*\.?"),
    "ipv4": _succeeds(ipaddress.IPv4Address),
    "ipv6": lambda text: "%" not in text and _succeeds(ipaddress.IPv6Address)(text),
    "cidr": _is_cidr,
    "mac": _matches("([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}|[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){7})"),
    "uuid": _uuid("[0-9a-f]{4}"),
    "uuid3": _uuid("3[0-9a-f]{3}"),
    "uuid4": _uuid("4[0-9a-f]{3}", "[89ab]"),
    "uuid5": _uuid("5[0-9a-f]{3}", "[89ab]"),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_credit_card,
    "ssn": _matches("[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}"),
    "hexcolor": _matches("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matches(r"rgb\( *({0}) *, *({0}) *, *({0}) *\)".format("25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]")),
    "byte": _is_base64,
    "password": lambda _: True,
    "date": _succeeds(datetime.date.fromisoformat),
    "duration": _matches(rf"[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+) ?{_UNIT})+|0|[0-9]+ ?(days?|hours?|minutes?|seconds?)"),
    "datetime": _is_date_time,
    "k8sshortname": lambda text: len(text) <= 63 and _matches(_LABEL)(text),
    "k8slongname": lambda text: len(text) <= 253 and _matches(rf"{_LABEL}(\.{_LABEL})*")(text),
}
"""By name, without the hyphens that some are written with. What no format is promises nothing."""

OF_NUMBERS = {"integer": ("int32", "int64"), "number": ("float", "double")}
"""By the type."""


def is_known(kind: str, name: str) -> bool:
    """Whether a format of values of a type (empty: of any) is checked, or means nothing."""
    if kind in ("", "string"):
        return name.replace("-", "") in FORMATS
    return name in OF_NUMBERS.get(kind, ())
