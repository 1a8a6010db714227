"""What is wrong with an object's fields, in Kubernetes' words (apimachinery pkg/util/validation/field/errors.go)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from netlab.api.meta_types import StatusCause


class Problems(list[StatusCause]):
    """The reasons for which an object is refused; empty means that it is valid."""

    def required(self, path: str, detail: str = "") -> None:
        """It must be given."""
        self._add("FieldValueRequired", path, "Required value" + (f": {detail}" if detail else ""))

    def invalid(self, path: str, value: Any, detail: str) -> None:
        """It is given, but cannot be that."""
        self._add("FieldValueInvalid", path, f"Invalid value: {_quote(value)}: {detail}")

    def duplicate(self, path: str, value: Any) -> None:
        """Another item of the list has it already."""
        self._add("FieldValueDuplicate", path, f"Duplicate value: {_quote(value)}")

    def not_found(self, path: str, value: Any) -> None:
        """It names something that is not there."""
        self._add("FieldValueNotFound", path, f"Not found: {_quote(value)}")

    def of_type(self, path: str, value: Any, detail: str) -> None:
        """It is given, and of another type."""
        self._add("FieldValueTypeInvalid", path, f"Invalid value: {_quote(value)}: {detail}")

    def too_many(self, path: str, found: int, most: int) -> None:
        """It has more items than it may have."""
        self._add("FieldValueTooMany", path, f"Too many: {found}: must have at most {most} items")

    def too_long(self, path: str, most: int) -> None:
        """It has more bytes than it may have."""
        self._add("FieldValueTooLong", path, f"Too long: may not be more than {most} bytes")

    def one_of(self, path: str, value: Any, choices: Iterable[str]) -> None:
        """Complain unless the value is one of the choices."""
        choices = tuple(choices)
        if value not in choices:
            supported = ", ".join(f'"{choice}"' for choice in choices)
            self._add(
                "FieldValueNotSupported", path, f"Unsupported value: {_quote(value)}: supported values: {supported}"
            )

    def forbidden(self, path: str, detail: str) -> None:
        """It may not be given, or not be changed."""
        self._add("FieldValueForbidden", path, f"Forbidden: {detail}")

    def in_range(self, path: str, value: int, first: int, last: int) -> None:
        """Complain unless the value is from `first` to `last`."""
        if not first <= value <= last:
            self.invalid(path, value, f"must be between {first} and {last}, inclusive")

    def not_negative(self, path: str, value: int | None) -> None:
        """Complain about less than zero."""
        if value is not None and value < 0:
            self.invalid(path, value, "must be greater than or equal to 0")

    def unchanged(self, path: str, new: Any, old: Any) -> None:
        """Complain unless it is what it was."""
        if new != old:
            self.invalid(path, new, "field is immutable")

    def _add(self, reason: str, path: str, message: str) -> None:
        self.append(StatusCause(reason=reason, message=message, field=path))


_LONGEST_QUOTE = 256


def _quote(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
