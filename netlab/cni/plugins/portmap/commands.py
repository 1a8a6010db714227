"""ADD, DEL and GC of the chained plugin `netlab-portmap`, which forwards ports of the node to the container.

Keys and runtimeConfig.portMappings are those of the Go plugin `portmap`. What differs, and why:

- Every mapping is some elements of maps in one table, `inet netlab_cni_portmap`, marked with their owner; chains and
  rules stay as they are, whatever the number of containers (see ruleset.py).
- If two containers want one port, the second is refused; with the Go plugin the first one or the last one wins.
- DEL looks for its owner's elements, and needs neither the mappings nor the result of the ADD.
- Other hosts still cannot reach the node's 127.0.0.0/8 (see `guard` in ruleset.py).

A mapping takes IPv4 and IPv6, as far as the container has addresses, and is reached from other hosts, other
containers, the container itself, and from the node, there at 127.0.0.1 too; not at ::1, whose packets the kernel lets
leave no loopback device.
"""

from __future__ import annotations

from netlab.cni.plugins.portmap import localhost
from netlab.cni.plugins.portmap.commit import commit
from netlab.cni.plugins.portmap.config import UNCHAINED, Config
from netlab.cni.plugins.portmap.plan import SETS, container_addresses, forwarded, wanted
from netlab.net.nftables.socket import Nfnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.request import Handler, Request
    from netlab.cni.spec.codec import Object
    from netlab.net.nftables.elements import Element, Set


def add(request: Request) -> Object:
    """ADD: the mappings, or none of them; the result is the previous one. Raises `CniError`, `OSError`."""
    config = Config(request)
    result = request.needed_result(UNCHAINED)
    if not config.mappings:
        return result
    addresses = container_addresses(result, request.ifname)
    plan = wanted(config, addresses, request.owner)
    commit(plan, config.mark_bit, request.environment)
    try:
        if config.snat:
            localhost.allow(addresses)
        _forget_flows([(item.where, item.element) for item in plan])
    except BaseException:
        _remove(request.owner.__eq__)
        raise
    return result


def delete(request: Request) -> None:
    """DEL: remove the owner's mappings, if there are any. Raises `CniError`, `OSError`."""
    _forget_flows(_remove(request.owner.__eq__))


def collect_garbage(request: Request) -> None:
    """GC: remove mappings of this network whose attachment no longer exists. Raises `CniError`, `OSError`."""
    _forget_flows(_remove(request.is_garbage()))


def _remove(unwanted: Callable[[str], bool]) -> list[tuple[Set, Element]]:
    """Delete the elements of such owners, and no others; returns them. Raises `NetlinkError`."""
    with Nfnetlink() as kernel:
        return kernel.remove(SETS, lambda _, element: unwanted(element.comment))


def _forget_flows(elements: list[tuple[Set, Element]]) -> None:
    """Forget the UDP flows to host ports that lead elsewhere from now on: to the container, or no longer to it.

    Call it after the rules are in force; a flow deleted earlier comes back through the old ones.
    """
    ports = {port for where, element in elements for port in forwarded(where, element)}
    if ports:
        from netlab.cni.plugins.portmap.flows import forget

        forget(ports)


def _rest(request: Request) -> None:
    """CHECK and STATUS, whose module an ADD or DEL does not need."""
    from netlab.cni.plugins.portmap import check

    (check.check if request.command == "CHECK" else check.status)(request)


HANDLERS: dict[str, Handler] = {"ADD": add, "DEL": delete, "CHECK": _rest, "GC": collect_garbage, "STATUS": _rest}
