"""How a check ends early: what a `Context` raises, and the runner turns into a verdict."""

from __future__ import annotations


class CheckFailed(Exception):  # noqa: N818 - an outcome, not an error of the program
    """The observation differs from what was expected."""


class CheckSkipped(Exception):  # noqa: N818
    """The check proves nothing in this lab; the message says why."""
