"""Removing a link without waiting until the kernel has freed it.

Between announcing that a link is gone and answering who deleted it, the kernel waits until every processor has
forgotten the link (netdev_run_todo: rcu_barrier), some 20 ms. Nobody needs what it frees then: the name, the addresses
and the port of a bridge have been given up before.
"""

from __future__ import annotations

import posix
from _socket import AF_NETLINK, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_RAW, socket
from _thread import start_new_thread
from errno import ENODEV
from select import POLLIN, poll

from netlab.net import netlink as nl
from netlab.net.route import links
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RTMGRP_LINK = 1
_LARGEST = 1 << 16


def remove(name: str) -> None:
    """Delete a link if there is one; it is gone when this returns, if not yet freed. Raises `NetlinkError`."""
    failed: list[OSError] = []
    over, end = posix.pipe2(posix.O_CLOEXEC)
    notices = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, nl.NETLINK_ROUTE)
    try:
        notices.bind((0, _RTMGRP_LINK))
        waiting = poll()
        waiting.register(over, POLLIN)
        waiting.register(notices, POLLIN)
        meanwhile(lambda: _delete(name, failed, end))
        while over not in (descriptor for descriptor, _ in waiting.poll()):
            if _says_gone(notices, name):
                return
    finally:
        notices.close()
        posix.close(over)
    if failed:
        raise failed[0]


def meanwhile(*functions: Callable[[], object]) -> None:
    """Call functions that wait for the kernel, each in a thread of its own, or here if there can be no more threads."""
    for function in functions:
        try:
            start_new_thread(function, ())
        except RuntimeError:
            function()


def _delete(name: str, failed: list[OSError], end: int) -> None:
    try:
        with Rtnetlink() as kernel:
            kernel.send(links.deletion(name), tolerate=ENODEV)
    except OSError as error:
        failed.append(error)
    finally:
        posix.close(end)


def _says_gone(notices: socket, name: str) -> bool:
    try:
        data = notices.recv(_LARGEST, MSG_DONTWAIT)
    except OSError:  # there were more notices than it holds: the end of the deletion will do
        return False
    return any(links.gone(kind, payload) == name for kind, _, _, payload in nl.messages(data))
