"""ADD and DEL of the main plugin: a container's interface is one end of a veth pair; the other end is in the node.

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

from netlab.cni.plugins.delegate import Delegate
from netlab.cni.plugins.main import veth
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.route import links
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.main.mode import Mode
    from netlab.cni.plugins.main.owned_table import Table
    from netlab.cni.plugins.request import Handler, Request
    from netlab.cni.spec.codec import Object
    from netlab.net.nftables.socket import Nfnetlink


def add(request: Request) -> Object:
    """ADD: the interface with its addresses and routes, or nothing at all. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.container_netns import open_netns
    from netlab.cni.plugins.main.config import Config
    from netlab.cni.plugins.main.mode import mode_of

    config = Config(request)
    if request.requested_ips and not config.ipam.kind:
        raise CniError(
            errors.UNSUPPORTED_FIELD, f"ips: {request.requested_ips!r}: there are no addresses without ipam.type"
        )
    mode = mode_of(config)
    undo: list[Callable[[], object]] = []
    netns = open_netns(request)
    kernel = Rtnetlink()
    try:
        # First, so that a failure here does not undo what an earlier ADD made.
        veth.refuse_attached(kernel, request)
        return _attach(kernel, request, mode, netns, undo)
    except BaseException:
        for step in reversed(undo):
            try:
                step()
            except (CniError, OSError):
                continue  # the first failure is the one reported
        raise
    finally:
        kernel.close()
        posix.close(netns)


def _attach(kernel: Rtnetlink, request: Request, mode: Mode, netns: int, undo: list[Callable[[], object]]) -> Object:
    """The steps of ADD; each adds what it makes to `undo` before it can fail half-way."""
    from netlab.cni.plugins.main.container import configure
    from netlab.cni.plugins.main.mode import Locked

    config, mac, before = mode.config, request.requested_mac, request.prev_result or {}
    reserved = config.ipam.add()
    undo.append(config.ipam.release)
    addressing = mode.address(reserved)
    if config.ipam.kind and not addressing.addresses:
        raise CniError(errors.DECODING_FAILURE, "result of the IPAM plugin: no ips")
    undo.append(lambda: _abandon(mode, kernel))
    mode.prepare_node(kernel)
    with Locked(shared=True):  # until it has a port, so that a failing ADD does not remove the bridge meanwhile
        shared = mode.prepare(kernel)
        host = veth.make(kernel, request, mode, netns, mac or addressing.mac())
    undo.append(lambda: kernel.send(links.deletion(host.name), tolerate=errno.ENODEV))
    mode.connect(kernel, host, addressing)
    pod, addressing.routes = configure(netns, request.ifname, config, addressing)
    for table, elements in mode.tables(request.owner, host, pod, addressing):
        undo.append(lambda table=table: _remove(table, request.owner).close())  # type: ignore[misc]
        table.add(request.environment, elements)
    if config.policy_socket:
        from netlab.cni.plugins.main.policies import await_policies

        await_policies(config.policy_socket, request, [str(each).partition("/")[0] for each in addressing.addresses])
    interfaces = [{"name": link.name, "mac": link.mac, "mtu": link.mtu} for link in (*shared, host)]
    interfaces.append({"name": pod.name, "mac": pod.mac, "mtu": pod.mtu, "sandbox": request.netns})
    return _result(before, interfaces, addressing, config.dns or reserved.get("dns"))


def _abandon(mode: Mode, kernel: Rtnetlink) -> None:
    from netlab.cni.plugins.main.mode import Locked

    with Locked(shared=False):
        mode.abandon(kernel)


def _remove(table: Table, owner: str) -> Nfnetlink:
    """Remove an owner's elements; the socket that did, still open."""
    from netlab.net.nftables.socket import Nfnetlink

    kernel = Nfnetlink()
    table.remove(kernel, owner.__eq__)
    return kernel


def _result(before: Object, interfaces: list[Object], addressing: Addressing, dns: Object | None) -> Object:
    """The result, appended to the previous plugin's; the last of the interfaces is the container's."""
    others = [*before.get("interfaces", []), *interfaces]
    return {
        "interfaces": others,
        "ips": [*before.get("ips", []), *addressing.ips(interface=len(others) - 1)],
        "routes": [*before.get("routes", []), *(route.result() for route in addressing.routes)],
        "dns": dns or before.get("dns") or {},
    }


def delete(request: Request) -> None:
    """DEL: frees the addresses and removes the interface; succeeds if there is none. Raises `CniError`, `OSError`.

    Frees all that can be freed, past any failures, and raises the first of them at the end.
    """
    sockets: list[Nfnetlink] = []
    # The addresses last: an address that is free must no longer be in use, nor masqueraded.
    steps: list[Callable[[], object]] = [
        lambda: _remove_link(veth.host_name(request), stays=request.stays),
        lambda: Delegate(request).delete(),
    ]
    if request.config.get("macspoofchk"):
        from netlab.cni.plugins.main import spoofing

        steps.insert(1, lambda: sockets.append(_remove(spoofing.TABLE, request.owner)))
    if request.config.get("ipMasq"):
        from netlab.cni.plugins.main import masquerade

        steps.insert(0, lambda: sockets.append(_remove(masquerade.TABLE, request.owner)))
    failure: CniError | OSError | None = None
    for step in steps:
        try:
            step()
        except (CniError, OSError) as error:
            failure = failure or error
    # In the kernel, closing a socket waits until what it deleted is freed (nft_rcv_nl_event; some 15 ms), and so does
    # deleting a link. Closed after that it is a single wait; a process that stays answers meanwhile.
    if request.stays and sockets:
        from netlab.net.route.removal import meanwhile

        meanwhile(*[opened.close for opened in sockets])
    else:
        for opened in sockets:
            opened.close()
    if failure is not None:
        raise failure


def _remove_link(name: str, *, stays: bool) -> None:
    if stays:
        from netlab.net.route.removal import remove

        remove(name)
        return
    with Rtnetlink() as kernel:
        kernel.send(links.deletion(name), tolerate=errno.ENODEV)


def _rest(request: Request) -> None:
    """CHECK, GC and STATUS, whose modules no ordinary ADD or DEL needs."""
    from netlab.cni.plugins.main import check, garbage

    {"CHECK": check.check, "GC": garbage.collect_garbage, "STATUS": check.status}[request.command](request)


HANDLERS: dict[str, Handler] = {"ADD": add, "DEL": delete, "CHECK": _rest, "GC": _rest, "STATUS": _rest}
