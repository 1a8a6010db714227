"""Faults: undone whatever happens, the last one first, once."""

import contextlib
import signal
from collections.abc import Callable

import pytest

from netlab.errors import NetlabError, NotFoundError
from netlab.scenario.faults import Faults
from netlab.scenario.interruption import interruptible


class Network:
    """What is broken in it, and what was done to it, in order."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.done: list[str] = []

    def broken(self) -> set[str]:
        return {each[1:] for each in self.done if self.done.count(f"+{each[1:]}") > self.done.count(f"-{each[1:]}")}

    def step(self, what: str, *, failing: Exception | None = None, signalled: int = 0) -> Callable[[], None]:
        def do() -> None:
            if signalled:
                signal.raise_signal(signalled)
            if failing is not None:
                raise failing
            self.done.append(what)

        return do


def test_what_is_left_is_undone_in_reverse_order_and_once() -> None:
    network = Network()
    for name in "abc":
        network.faults.make(name, network.step(f"+{name}"), network.step(f"-{name}"))
    network.faults.undo_all()
    network.faults.undo_all()
    assert network.done == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_what_a_check_has_put_right_is_not_undone_again() -> None:
    network = Network()
    fault = network.faults.make("a", network.step("+a"), network.step("-a"))
    with network.faults.make("b", network.step("+b"), network.step("-b")):
        assert network.broken() == {"a", "b"}
    fault.undo()
    fault.undo()
    network.faults.undo_all()
    assert network.done == ["+a", "+b", "-b", "-a"]


def test_a_block_that_fails_is_undone() -> None:
    network = Network()
    with pytest.raises(ZeroDivisionError), network.faults.make("a", network.step("+a"), network.step("-a")):
        raise ZeroDivisionError
    assert network.done == ["+a", "-a"]


def test_a_fault_that_cannot_be_made_is_undone_as_far_as_it_goes() -> None:
    network = Network()
    with pytest.raises(NetlabError, match="no such link"):
        network.faults.make("a", network.step("+a", failing=NetlabError("no such link")), network.step("-a"))
    with pytest.raises(NetlabError, match="no such route"):
        network.faults.make(
            "b", network.step("+b", failing=NetlabError("no such route")), network.step("", failing=NetlabError("x"))
        )
    network.faults.undo_all()
    assert network.done == ["-a"]


@pytest.mark.parametrize("error", [NetlabError("said no"), OSError("out of memory"), KeyError("said no")])
def test_one_that_cannot_be_undone_is_told_and_does_not_keep_the_others(error: Exception) -> None:
    network = Network()
    network.faults.make("route a", network.step("+a"), network.step("-a"))
    network.faults.make("route b", network.step("+b"), network.step("-b", failing=error))
    network.faults.make("route c", network.step("+c"), network.step("-c"))
    with pytest.raises(NetlabError, match=r"not undone: route b: .*netlab down"):
        network.faults.undo_all()
    assert network.broken() == {"b"}
    # It is tried again, and told again: it is still there.
    with pytest.raises(NetlabError, match="route b"):
        network.faults.undo_all()


def test_what_is_gone_took_its_fault_along() -> None:
    network = Network()
    network.faults.make("a", network.step("+a"), network.step("-a", failing=NotFoundError("there is no pod 'a'")))
    network.faults.undo_all()
    network.faults.undo_all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["making", "made", "undoing"])
def test_an_interruption_at_any_moment_leaves_nothing_broken(number: int, moment: str) -> None:
    network = Network()

    def lesson() -> None:
        try:
            network.faults.make("a", network.step("+a"), network.step("-a"))
            network.faults.make(
                "b",
                network.step("+b", signalled=number if moment == "making" else 0),
                network.step("-b", signalled=number if moment == "undoing" else 0),
            )
            if moment == "made":
                signal.raise_signal(number)
        finally:
            network.faults.undo_all()

    with pytest.raises((KeyboardInterrupt, SystemExit)), interruptible():
        lesson()
    assert network.done == ["+a", "+b", "-b", "-a"]


def test_an_interruption_while_several_are_undone_waits_for_all_of_them() -> None:
    network = Network()

    def lesson() -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(network.faults.undo_all)
            for name in "abc":
                network.faults.make(name, network.step(f"+{name}"), network.step(f"-{name}", signalled=signal.SIGTERM))

    with pytest.raises(SystemExit), interruptible():
        lesson()
    assert network.done == ["+a", "+b", "+c", "-c", "-b", "-a"]
