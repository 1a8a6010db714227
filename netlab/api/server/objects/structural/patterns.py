"""Regular expressions of schemas: anybody's, so RE2 matches them, in time linear in the text whatever they are.

Its syntax is that of Go's regexp, and so of Kubernetes' own server.
"""

from __future__ import annotations

import functools
from typing import Any


class PatternError(ValueError):
    """The text is no regular expression, or one that would take too much memory."""


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    import re2  # A lab without a pattern needs none of it.

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise PatternError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None


def check(pattern: str) -> None:
    """Raise `PatternError` unless it can be matched."""
    _compiled(pattern)


def first(pattern: str, text: str) -> str:
    """The first part of the text that the pattern matches; empty if there is none."""
    found = _compiled(pattern).search(text)
    return found[0] if found is not None else ""


def is_found(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text."""
    return _compiled(pattern).search(text) is not None
