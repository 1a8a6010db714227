"""The chained plugin `netlab-portmap`: forwards ports of the node to the container, as for `hostPort`.

Keys and runtimeConfig.portMappings are those of the Go plugin `portmap`. What differs, and why:

- Every mapping is some elements of maps in one table, `inet netlab_cni_portmap`, marked with their owner; chains and
  rules stay as they are, whatever the number of containers (see table.py).
- If two containers want one port, the second is refused; with the Go plugin the first one or the last one wins.
- DEL looks for its owner's elements, and needs neither the mappings nor the result of the ADD.
- Other hosts still cannot reach the node's 127.0.0.0/8 (see `guard` in table.py).

A mapping takes IPv4 and IPv6, as far as the container has addresses, and is reached from other hosts, other
containers, the container itself, and from the node, there at 127.0.0.1 too; not at ::1, whose packets the kernel lets
leave no loopback device.
"""

from __future__ import annotations

from netlab.cni.plugins.portmap import localhost
from netlab.cni.plugins.portmap.config import Config, previous_result
from netlab.cni.plugins.portmap.elements import commit
from netlab.cni.plugins.portmap.mappings import SETS, container_addresses, forwarded, parse_mappings, wanted
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.nfelements import Nfnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object
    from netlab.net.nfelements import Element, Set


def add(request: Request) -> Object:
    """ADD: the mappings, or none of them; the result is the previous one. Raises `CniError`, `OSError`."""
    config = Config(request)
    result = previous_result(request)
    mappings = parse_mappings(request.runtime_config)
    if not mappings:
        return result
    addresses = container_addresses(result, request.ifname)
    plan = wanted(mappings, addresses, config, request.owner)
    try:
        commit(plan, config.mark_bit, request.environment)
        try:
            if config.snat:
                localhost.allow(addresses)
            _forget_flows([(item.where, item.element) for item in plan])
        except BaseException:
            _remove(request.owner.__eq__)
            raise
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    return result


def delete(request: Request) -> None:
    """DEL: remove the owner's mappings, if there are any. Raises `CniError`, `OSError`."""
    _remove_and_forget(request.owner.__eq__)


def collect_garbage(request: Request) -> None:
    """GC: remove mappings of this network whose attachment no longer exists. Raises `CniError`, `OSError`."""
    _remove_and_forget(request.is_garbage())


def check(request: Request) -> None:
    """CHECK: every element, the table, and the node's own way. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.portmap.check import check as run  # nothing that an ADD or DEL needs

    run(request)


def status(request: Request) -> None:
    """STATUS: whether nftables can be used. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.portmap.check import status as run

    run(request)


HANDLERS = {"ADD": add, "DEL": delete, "CHECK": check, "GC": collect_garbage, "STATUS": status}


def _remove(unwanted: Callable[[str], bool]) -> list[tuple[Set, Element]]:
    """Delete the elements of such owners, and no others; returns them. Raises `NetlinkError`."""
    with Nfnetlink() as kernel:
        return kernel.remove(SETS, lambda _, element: unwanted(element.comment))


def _remove_and_forget(unwanted: Callable[[str], bool]) -> None:
    try:
        _forget_flows(_remove(unwanted))
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error


def _forget_flows(elements: list[tuple[Set, Element]]) -> None:
    """Forget the UDP flows to host ports that lead elsewhere from now on: to the container, or no longer to it.

    Call it after the rules are in force; a flow deleted earlier comes back through the old ones.
    """
    ports = {port for where, element in elements for port in forwarded(where, element)}
    if ports:
        from netlab.cni.plugins.portmap.flows import forget

        forget(ports)
