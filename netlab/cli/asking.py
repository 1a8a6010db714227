"""Questions to an API server, and errors of tasks, for commands that wait for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from netlab.errors import innermost

if TYPE_CHECKING:
    from netlab.api.client import Client

T = TypeVar("T")


def ask(client: Client, question: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """The answer to a question that a client, closed afterwards, asks. Raises what the question raises."""

    async def asked() -> T:
        async with client:
            return await question(client)

    return unwrapped(asked())


def unwrapped(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it; of errors that tasks raised together, raise the one for people."""
    try:
        return asyncio.run(coroutine)
    except BaseExceptionGroup as group:
        raise innermost(group) from group
