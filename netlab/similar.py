"""Names like one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of an error about an unknown name: those that are similar, or begin with it; empty without any."""
    near = difflib.get_close_matches(name, known) or [other for other in known if other.startswith(name)][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
