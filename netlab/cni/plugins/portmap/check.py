"""CHECK and STATUS of `netlab-portmap`."""

from __future__ import annotations

from netlab.cni.plugins.nft import difference, nft
from netlab.cni.plugins.portmap import localhost
from netlab.cni.plugins.portmap.config import UNCHAINED, Config
from netlab.cni.plugins.portmap.plan import SETS, TABLE, container_addresses, wanted
from netlab.cni.plugins.portmap.ruleset import text
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.nftables.socket import Nfnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request


def check(request: Request) -> None:
    """Every element with its owner's mark, the table's chains and rules, and route_localnet. Raises `CniError`."""
    config = Config(request)
    result = request.needed_result(UNCHAINED)
    if not config.mappings:
        return
    addresses = container_addresses(result, request.ifname)
    if said := difference(request.environment, f"inet {TABLE}", text([config.mark_bit])):
        raise errors.broken(f"table inet {TABLE}", said)
    with Nfnetlink() as kernel:
        found = {(where, element.key): element for where in SETS for element in kernel.elements(where)}
    closed = localhost.closed(addresses) if config.snat else ""
    for item in wanted(config, addresses, request.owner):
        element = found.get((item.where, item.element.key))
        if element is None:
            raise errors.broken(item.subject, f"its element of map {item.where.name} is missing")
        if element.comment != request.owner:
            raise errors.broken(
                item.subject, f"map {item.where.name} has it as {element.comment or 'an unknown owner'}'s"
            )
        if element != item.element:
            raise errors.broken(item.subject, f"its element of map {item.where.name} differs")
    if closed:
        raise errors.broken(closed, "not 1")


def status(request: Request) -> None:
    """Whether nftables and its program are there, and may be used. Raises `CniError`."""
    Config(request)
    try:
        nft(request.environment, "--version")
        with Nfnetlink() as kernel:
            kernel.generation()
    except (CniError, OSError) as error:
        raise CniError(errors.NOT_AVAILABLE, f"host ports cannot be mapped: {error}") from error
