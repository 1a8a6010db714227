"""pid 1's loop calls what is due, and nothing that is not watched any more."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from netlab.machine.loop import Loop


class _Done(BaseException):
    pass


@pytest.mark.parametrize("again", [False, True])
def test_a_watch_that_another_call_of_the_same_round_has_stopped_is_not_called(again: bool) -> None:
    """Its descriptor may be closed by then, and belong to another file. A new watch waits for the next round."""
    loop, called = Loop(), []
    with ExitStack() as stack:
        pipes = [os.pipe() for _ in range(2)]
        for pipe in pipes:
            for descriptor in pipe:
                stack.callback(os.close, descriptor)
            os.write(pipe[1], b"x")

        def stop(own: int, other: int) -> None:
            called.append(own)
            os.read(own, 1)
            loop.unwatch(other)
            if again:
                loop.watch(other, lambda: end(other))

        def end(descriptor: int = -1) -> None:
            called.append(descriptor)
            raise _Done

        (first, _), (second, _) = pipes
        loop.watch(first, lambda: stop(first, second))
        loop.watch(second, lambda: stop(second, first))
        loop.after(0.0 if not again else 60.0, end)
        with pytest.raises(_Done):
            loop.run()
    assert called in (([first, second], [second, first]) if again else ([first, -1], [second, -1]))
