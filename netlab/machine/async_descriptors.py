"""Reading and writing pipes, terminals and sockets by descriptor, without blocking the loop."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable

_CHUNK = 32 * 1024


async def chunks(descriptor: int) -> AsyncIterator[bytes]:
    """What comes out of a descriptor, until its other end is closed."""
    os.set_blocking(descriptor, False)
    while True:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            await readable(descriptor)
            continue
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that nobody has open any more
                raise
            return
        if not data:
            return
        yield data


async def write(descriptor: int, data: bytes) -> None:
    """Write all of it. Raises `OSError` (EPIPE) when nobody reads it."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            await _ready(lambda wake: loop.add_writer(descriptor, wake), lambda: loop.remove_writer(descriptor))


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or nothing more to come."""
    loop = asyncio.get_running_loop()
    await _ready(lambda wake: loop.add_reader(descriptor, wake), lambda: loop.remove_reader(descriptor))


async def _ready(watch: Callable[[Callable[[], None]], None], unwatch: Callable[[], object]) -> None:
    ready = asyncio.get_running_loop().create_future()
    watch(lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        unwatch()
