"""The main plugin, `netlab`: a container's interface is one end of a veth pair; the other end is in the node.

The configuration has the keys of the Go `bridge` plugin, plus `mode`, which says how the host's end is attached. The
differences from the Go plugin, and why:

- The host's end is named after the attachment and marked with its owner, so that DEL finds it after the namespace is
  gone, and GC knows what is ours without guessing by names.
- The container's MAC address is derived from its IP address, so that a reused address needs no announcement (which
  could be lost: a bridge port only starts forwarding some time after it is up).
- IPv6 addresses skip duplicate detection unless `enabledad` asks for it: IPAM has already ensured it, and a container
  can use them at once.

What an ordinary ADD or DEL does not need is imported on demand: every module delays the start of a pod.
"""

from __future__ import annotations

import errno
import posix
import sys
from _blake2 import blake2s

from netlab.cni.plugins import delegate
from netlab.cni.plugins.fields import option
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net import rtnl
from netlab.net.netlink import NetlinkError
from netlab.net.rtnl import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.main.mode import Mode
    from netlab.cni.plugins.main.tables import Elements, Table
    from netlab.cni.plugins.request import Handler, Request
    from netlab.cni.spec.codec import Object
    from netlab.net.nfelements import Nfnetlink
    from netlab.net.rtnl import Link

_MODES = ("bridge", "routed", "vxlan")


def mode_of(request: Request) -> Mode:
    """The configured mode, made by `MODE` in the module of that name. Raises `CniError`."""
    name = option(request.config, "mode", str, "") or _MODES[0]
    if name not in _MODES:
        raise CniError(errors.INVALID_CONFIG, f"mode: {name!r} must be one of {', '.join(_MODES)}")
    module = f"{__name__}.{name}"
    __import__(module)  # importlib costs a file more
    made: Mode = sys.modules[module].MODE(request)
    return made


def host_name(request: Request) -> str:
    """The name of the host's end of an attachment: at most 15 bytes, and the same on every call.

    Not random, so that a delete finds it after the namespace is gone.
    """
    key = f"{request.network}/{request.container_id}/{request.ifname}".encode()
    return "veth" + blake2s(key, digest_size=5).hexdigest()


def add(request: Request) -> Object:
    """ADD: the interface with its addresses and routes, or nothing at all. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.main.mode import attached_already
    from netlab.cni.plugins.netns import open_netns

    mode = mode_of(request)
    if request.requested_ips and not mode.config.has_ipam:
        raise CniError(
            errors.UNSUPPORTED_FIELD, f"ips: {request.requested_ips!r}: there are no addresses without ipam.type"
        )
    undo: list[Callable[[], object]] = []
    netns = open_netns(request)
    kernel = Rtnetlink()
    try:
        # First, so that a failure here does not undo what an earlier ADD made.
        if kernel.link(host_name(request)) is not None:
            raise attached_already(request)
        return _attach(kernel, mode, netns, undo)
    except BaseException as error:
        for step in reversed(undo):
            try:
                step()
            except (CniError, OSError):
                continue  # the first failure is the one reported
        if isinstance(error, NetlinkError):
            raise CniError(errors.KERNEL_REFUSED, str(error)) from error
        raise
    finally:
        kernel.close()
        posix.close(netns)


def _attach(kernel: Rtnetlink, mode: Mode, netns: int, undo: list[Callable[[], object]]) -> Object:
    """The steps of ADD; each adds what it makes to `undo` before it can fail half-way."""
    from netlab.cni.plugins.main.container import configure
    from netlab.cni.plugins.main.mode import make_host_end
    from netlab.cni.plugins.netns import Locked

    request, config = mode.request, mode.config
    reserved = delegate.add(request)
    undo.append(lambda: delegate.release(request))
    addressing = mode.address(reserved)
    if config.has_ipam and not addressing.addresses:
        raise CniError(errors.DECODING_FAILURE, "result of the IPAM plugin: no ips")
    undo.append(lambda: _abandon(mode, kernel))
    mode.prepare_node(kernel)
    with Locked(shared=True):  # until it has a port, so that a failing ADD does not remove the bridge meanwhile
        shared = mode.prepare(kernel)
        host = make_host_end(kernel, mode, netns, request.requested_mac or addressing.mac())
    undo.append(lambda: kernel.send(rtnl.link_deletion(host.name), tolerate=errno.ENODEV))
    mode.connect(kernel, host, addressing)
    pod, addressing.routes = configure(netns, request.ifname, config, addressing)
    for table, elements in tables_of(mode, host, pod, addressing):
        undo.append(_removal(table, request.owner))
        table.add(request.environment, elements)
    return _result(mode, [*shared, host], pod, addressing, reserved)


def _abandon(mode: Mode, kernel: Rtnetlink) -> None:
    from netlab.cni.plugins.netns import Locked

    with Locked(shared=False):
        mode.abandon(kernel)


def _removal(table: Table, owner: str) -> Callable[[], None]:
    def remove() -> None:
        from netlab.net.nfelements import Nfnetlink

        with Nfnetlink() as kernel:
            table.remove(kernel, owner.__eq__)

    return remove


def tables_of(mode: Mode, host: Link, pod: Link, addressing: Addressing) -> list[tuple[Table, Elements]]:
    """The nftables tables that the configuration needs, with their elements for this attachment."""
    found = []
    owner = mode.request.owner
    if mode.config.spoof_check:
        from netlab.cni.plugins.main import spoofing

        found.append((spoofing.TABLE, spoofing.elements(owner, host.name, pod.mac)))
    if mode.config.masquerade and addressing.subnets:
        from netlab.cni.plugins.main import masquerade

        found.append((masquerade.TABLE, masquerade.elements(owner, addressing, mode.overlay)))
    return found


def _result(mode: Mode, links: list[Link], pod: Link, addressing: Addressing, reserved: Object) -> Object:
    """The result, appended to the previous plugin's."""
    request, before = mode.request, mode.request.prev_result or {}
    interfaces = [*before.get("interfaces", [])]
    interfaces += [{"name": link.name, "mac": link.mac, "mtu": link.mtu} for link in links]
    ips = addressing.ips(interface=len(interfaces))
    interfaces.append({"name": pod.name, "mac": pod.mac, "mtu": pod.mtu, "sandbox": request.netns})
    return {
        "interfaces": interfaces,
        "ips": [*before.get("ips", []), *ips],
        "routes": [*before.get("routes", []), *(route.result() for route in addressing.routes)],
        "dns": mode.config.dns or reserved.get("dns") or before.get("dns") or {},
    }


def delete(request: Request) -> None:
    """DEL: frees the addresses and removes the interface; succeeds if there is none. Raises `CniError`, `OSError`.

    Frees all that can be freed, past any failures, and raises the first of them at the end.
    """
    sockets: list[Nfnetlink] = []

    def remove(table: Table) -> None:
        from netlab.net.nfelements import Nfnetlink

        sockets.append(Nfnetlink())
        table.remove(sockets[-1], request.owner.__eq__)

    # The addresses last: an address that is free must no longer be in use, nor masqueraded.
    steps: list[Callable[[], object]] = [lambda: _delete_link(host_name(request)), lambda: delegate.delete(request)]
    if request.config.get("macspoofchk"):
        from netlab.cni.plugins.main import spoofing

        steps.insert(1, lambda: remove(spoofing.TABLE))
    if request.config.get("ipMasq"):
        from netlab.cni.plugins.main import masquerade

        # In the kernel, closing a socket waits until what it deleted is freed (nft_rcv_nl_event; some 15 ms), and
        # deleting a link waits as long. Keeping the socket open meanwhile makes it a single wait.
        steps.insert(0, lambda: remove(masquerade.TABLE))
    failure: CniError | OSError | None = None
    for step in steps:
        try:
            step()
        except (CniError, OSError) as error:
            failure = failure or error
    for opened in sockets:
        opened.close()
    if isinstance(failure, NetlinkError):
        raise CniError(errors.KERNEL_REFUSED, str(failure)) from failure
    if failure is not None:
        raise failure


def _delete_link(name: str) -> None:
    with Rtnetlink() as kernel:
        kernel.send(rtnl.link_deletion(name), tolerate=errno.ENODEV)


def check(request: Request) -> None:
    """CHECK: everything that ADD made. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.main.check import check

    check(request)


def collect_garbage(request: Request) -> None:
    """GC: remove all that this network made for attachments that are no longer valid. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.main.upkeep import collect_garbage

    collect_garbage(request)


def status(request: Request) -> None:
    """STATUS: whether an ADD can be served. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.main.upkeep import status

    status(request)


HANDLERS: dict[str, Handler] = {"ADD": add, "DEL": delete, "CHECK": check, "GC": collect_garbage, "STATUS": status}
