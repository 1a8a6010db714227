"""The building blocks of a scenario's checks.py: functions that state what is expected and what was observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netlab.scenario.context import Context


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: what it proves, in a sentence, and the function that proves it."""

    title: str
    function: Callable[[Context], None]

    @property
    def name(self) -> str:
        """The function's name, with dashes."""
        return self.function.__name__.strip("_").replace("_", "-")


def check(title: str) -> Callable[[Callable[[Context], None]], Check]:
    """Decorate a function that takes a `Context` as a check; `title` is the sentence that it proves."""
    return lambda function: Check(title, function)
