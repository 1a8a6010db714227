"""The main plugin: a container's interface is a veth pair, whose other end is a port of the node's bridge.

The configuration's keys are those of the Go `bridge` plugin. What differs, and why:

- The host's end is named after the attachment, not at random, so that a delete finds it with the namespace gone.
- The container's MAC address follows from its IP address. A neighbour's entry for an address that was given to
  another container is therefore still right, and nothing needs to be announced (which could be lost: a bridge port
  forwards only some time after it is up).
- IPv6 addresses skip duplicate detection: IPAM has seen to it, and a container can use them at once.
"""

from __future__ import annotations

import errno
import os
from _blake2 import blake2s

from netlab.cni import delegate, errors
from netlab.cni.addresses import Prefix, format_address, parse_address, parse_prefix
from netlab.cni.errors import CniError
from netlab.cni.netns import Entered, open_netns
from netlab.cni.plugin import is_interface_name, option
from netlab.net import rtnl
from netlab.net.rtnl import Link, Rtnetlink, RtnetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugin import Object, Request

_BRIDGE = "cni0"
# Keys of the Go plugin that would change what packets do; to pass over them silently would be worse than to refuse.
_UNSUPPORTED = ("ipMasq", "vlan", "vlanTrunk", "macspoofchk", "disableContainerInterface", "portIsolation")
_UNSUPPORTED_AT_RUNTIME = ("mac", "ips", "ipRanges", "portMappings", "bandwidth")


class Config:
    """The plugin's configuration, checked."""

    __slots__ = ("bridge", "force_address", "hairpin", "is_default_gateway", "is_gateway", "mtu", "promiscuous")

    def __init__(self, config: Object) -> None:
        self.bridge: str = option(config, "bridge", str, _BRIDGE)
        self.is_default_gateway: bool = option(config, "isDefaultGateway", bool, False)
        self.is_gateway: bool = option(config, "isGateway", bool, False) or self.is_default_gateway
        self.force_address: bool = option(config, "forceAddress", bool, False)
        self.hairpin: bool = option(config, "hairpinMode", bool, False)
        self.promiscuous: bool = option(config, "promiscMode", bool, False)
        self.mtu: int = option(config, "mtu", int, 0)
        for key in _UNSUPPORTED:
            if config.get(key):
                raise CniError(errors.UNSUPPORTED_FIELD, f"{key}: {config[key]!r} is not supported; leave it out")
        for key in option(config, "runtimeConfig", dict, {}):
            if key in _UNSUPPORTED_AT_RUNTIME:
                value = config["runtimeConfig"][key]
                raise CniError(errors.UNSUPPORTED_FIELD, f"runtimeConfig.{key}: {value!r} is not supported")
        if not is_interface_name(self.bridge):
            raise CniError(errors.INVALID_CONFIG, f"bridge: {self.bridge!r} is not a valid name of an interface")
        if not 0 <= self.mtu <= 65535:
            raise CniError(errors.INVALID_CONFIG, f"mtu: {self.mtu} must be 0 (the default) to 65535")
        if self.hairpin and self.promiscuous:
            raise CniError(errors.INVALID_CONFIG, "hairpinMode: true excludes promiscMode: true; choose one")


class Addressing:
    """What IPAM gave, and what follows from it: the container's addresses and routes, and the bridge's addresses."""

    __slots__ = ("addresses", "gateways", "ips", "mac", "routes")

    def __init__(self, config: Config, result: Object) -> None:
        """Raises `CniError` for a result that cannot be understood."""
        try:
            self.addresses = [parse_prefix(ip["address"]) for ip in result.get("ips", [])]
            self.gateways = [
                self._gateway(config, address, ip.get("gateway", ""))
                for address, ip in zip(self.addresses, result.get("ips", []), strict=True)
            ]
            self.routes = [
                (parse_prefix(item["dst"]), self._via(item.get("gw", ""), item["dst"]))
                for item in result.get("routes") or []
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CniError(errors.DECODING_FAILURE, f"result of the IPAM plugin: {error}") from error
        if config.is_default_gateway:
            self._add_default_routes()
        self.mac = _mac(self.addresses[0]) if self.addresses else b""
        self.ips = [
            {"address": str(address), "interface": 2, **({"gateway": _text(gateway)} if gateway else {})}
            for address, gateway in zip(self.addresses, self.gateways, strict=True)
        ]

    @staticmethod
    def _gateway(config: Config, address: Prefix, given: str) -> Prefix | None:
        if given:
            gateway, bits = parse_address(given)
            return Prefix(gateway, address.length, bits)
        return Prefix(address.first + 1, address.length, address.bits) if config.is_gateway else None

    def _via(self, gateway: str, destination: str) -> Prefix | None:
        """The next hop of a route: its own, or else the gateway of its family."""
        if gateway:
            address, bits = parse_address(gateway)
            return Prefix(address, bits, bits)
        bits = parse_prefix(destination).bits
        return next((found for found in self.gateways if found and found.bits == bits), None)

    def _add_default_routes(self) -> None:
        present = {destination.bits for destination, _ in self.routes if destination.length == 0}
        for gateway in self.gateways:
            if gateway and gateway.bits not in present:
                present.add(gateway.bits)
                self.routes.append((Prefix(0, 0, gateway.bits), gateway))

    def result_routes(self) -> list[Object]:
        """The routes as the CNI result tells them."""
        return [
            {"dst": str(destination), **({"gw": _text(gateway)} if gateway else {})}
            for destination, gateway in self.routes
        ]


def _text(address: Prefix) -> str:
    return format_address(address.address, address.bits)


def _mac(address: Prefix) -> bytes:
    """A locally administered address: 0a:58 and the IPv4 address, or 0e and 40 bits of a hash of the IPv6 address."""
    if address.bits == 32:
        return b"\x0a\x58" + address.packed
    return b"\x0e" + blake2s(address.packed, digest_size=5).digest()


def host_name(request: Request) -> str:
    """The name of the host's end of an attachment: at most 15 bytes, and the same at every call."""
    key = f"{request.network}/{request.container_id}/{request.ifname}".encode()
    return "veth" + blake2s(key, digest_size=5).hexdigest()


def add(request: Request) -> Object:
    """ADD: the interface, its addresses and routes, or nothing at all. Raises `CniError`, `OSError`."""
    config = Config(request.config)
    netns = open_netns(request.netns)
    kernel = Rtnetlink()
    try:
        bridge = _ensure_bridge(kernel, config)
        reserved = delegate.add(request)
        try:
            addressing = Addressing(config, reserved)
            if config.is_gateway:
                _ensure_gateways(kernel, config, bridge, addressing)
            host = _make_veth(kernel, config, request, bridge, netns, addressing.mac)
            try:
                _bring_up_port(kernel, config, host)
                pod = _configure(netns, request.ifname, addressing)
            except BaseException:
                kernel.send(rtnl.link_deletion(host.name), tolerate=errno.ENODEV)
                raise
        except BaseException:
            delegate.release(request)
            raise
    except RtnetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    finally:
        kernel.close()
        os.close(netns)
    return {
        "interfaces": [
            {"name": bridge.name, "mac": bridge.mac},
            {"name": host.name, "mac": host.mac},
            {"name": pod.name, "mac": pod.mac, "sandbox": request.netns},
        ],
        "ips": addressing.ips,
        "routes": addressing.result_routes(),
        "dns": reserved.get("dns") or option(request.config, "dns", dict, {}),
    }


def delete(request: Request) -> None:
    """DEL: frees the addresses and removes the interface; true also if there is none. Raises `CniError`, `OSError`."""
    # The link first: an address that is free again must not still be in use.
    kernel = Rtnetlink()
    try:
        kernel.send(rtnl.link_deletion(host_name(request)), tolerate=errno.ENODEV)
    except RtnetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    finally:
        kernel.close()
    delegate.delete(request)


def check(request: Request) -> None:
    """CHECK: the reservation, the port of the bridge, the interface and its addresses. Raises `CniError`, `OSError`."""
    config = Config(request.config)
    previous = request.config.get("prevResult")
    if not isinstance(previous, dict):
        raise CniError(errors.INVALID_CONFIG, "prevResult: CHECK needs the result of the ADD")
    delegate.check(request)
    netns = open_netns(request.netns)
    kernel = Rtnetlink()
    try:
        bridge, host = _get(kernel, config.bridge), _get(kernel, host_name(request))
        if host.master != bridge.index:
            raise CniError(errors.CHECK_FAILED, f"link {host.name}: it is not a port of bridge {bridge.name}")
        with Entered(netns) as inside:
            pod = _get(inside, request.ifname)
            if not pod.flags & rtnl.IFF_UP:
                raise CniError(errors.CHECK_FAILED, f"link {pod.name}: it is down")
            present = {(item.packed, item.length) for item in inside.addresses(pod.index)}
        for ip in previous.get("ips", []):
            if previous["interfaces"][ip["interface"]]["name"] != request.ifname:
                continue
            address = parse_prefix(ip["address"])
            if (address.packed, address.length) not in present:
                raise CniError(errors.CHECK_FAILED, f"link {pod.name}: address {address} is missing")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CniError(errors.INVALID_CONFIG, f"prevResult: {error!r}") from error
    except RtnetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    finally:
        kernel.close()
        os.close(netns)


def _get(kernel: Rtnetlink, name: str) -> Link:
    link = kernel.link(name)
    if link is None:
        raise CniError(errors.CHECK_FAILED, f"link {name}: it is missing")
    return link


def _ensure_bridge(kernel: Rtnetlink, config: Config) -> Link:
    link = kernel.link(config.bridge)
    if link is None:
        mac = bytes([0x0A, 0x58, *os.urandom(4)])
        kernel.send(rtnl.bridge(config.bridge, mac, config.mtu), tolerate=errno.EEXIST)  # another ADD was faster
        link = _get(kernel, config.bridge)
    if link.kind != "bridge":
        raise CniError(
            errors.INVALID_CONFIG, f"bridge: link {link.name!r} exists and is no bridge; choose another name"
        )
    flags = rtnl.IFF_UP | (rtnl.IFF_PROMISC if config.promiscuous else 0)
    if link.flags & flags != flags:
        kernel.send(rtnl.link_flags(link.name, link.index, flags))
    return link


def _ensure_gateways(kernel: Rtnetlink, config: Config, bridge: Link, addressing: Addressing) -> None:
    """The gateways' addresses on the bridge, and forwarding of their families."""
    for gateway in filter(None, addressing.gateways):
        message = rtnl.address(bridge.name, bridge.index, gateway.packed, gateway.length)
        (added,) = kernel.send(message, tolerate=errno.EEXIST)
        if added:
            _settle_other_addresses(kernel, config, bridge, gateway)
        _write_sysctl("net/ipv4/ip_forward" if gateway.bits == 32 else "net/ipv6/conf/all/forwarding", "1")


def _settle_other_addresses(kernel: Rtnetlink, config: Config, bridge: Link, gateway: Prefix) -> None:
    """Another address of the bridge in the gateway's subnet goes with forceAddress, and is an error without."""
    for other in kernel.addresses(bridge.index):
        number = int.from_bytes(other.packed, "big")
        if len(other.packed) * 8 != gateway.bits or other.packed == gateway.packed or number not in gateway:
            continue
        if not config.force_address:
            kernel.send(rtnl.address_deletion(bridge.name, bridge.index, gateway.packed, gateway.length))
            raise CniError(
                errors.INVALID_CONFIG,
                f"bridge {bridge.name}: it has {Prefix(number, other.length, gateway.bits)}, not {gateway};"
                " remove that address or set forceAddress",
            )
        kernel.send(rtnl.address_deletion(bridge.name, bridge.index, other.packed, other.length))
    # With its subnet's first IPv4 address the kernel deletes the others of that subnet (promote_secondaries is off).
    kernel.send(rtnl.address(bridge.name, bridge.index, gateway.packed, gateway.length), tolerate=errno.EEXIST)


def _make_veth(kernel: Rtnetlink, config: Config, request: Request, bridge: Link, netns: int, mac: bytes) -> Link:
    name = host_name(request)
    try:
        kernel.send(rtnl.veth(name, bridge.index, request.ifname, netns, mac, config.mtu))
    except RtnetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        if kernel.link(name) is not None:
            raise CniError(
                errors.INVALID_ENVIRONMENT,
                f"CNI_CONTAINERID: {request.container_id} is on network {request.network} as {request.ifname} already;"
                " DEL it first",
            ) from error
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {request.ifname} exists in {request.netns} already"
        ) from error
    return _get(kernel, name)


def _bring_up_port(kernel: Rtnetlink, config: Config, host: Link) -> None:
    """Set the host's end up. It only carries frames: an address would have it ask and announce on all other ports."""
    messages = [rtnl.no_ipv6_address(host.name, host.index), rtnl.link_flags(host.name, host.index, rtnl.IFF_UP)]
    if config.hairpin:
        messages.append(rtnl.hairpin(host.name, host.index))
    kernel.send(*messages, tolerate=errno.EAFNOSUPPORT)


def _configure(netns: int, ifname: str, addressing: Addressing) -> Link:
    """Set the container's end up, with addresses and routes, all in one message to the kernel."""
    with Entered(netns) as kernel:
        link = _get(kernel, ifname)
        speaks_ipv6 = any(address.bits == 128 for address in addressing.addresses)
        if speaks_ipv6:
            # Its link-local address too is usable at once; its routes are those given here and no router's.
            for key, value in (("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")):
                _write_sysctl(f"net/ipv6/conf/{ifname}/{key}", value)
        else:
            # What nobody asked for would speak all the same: multicast to every other pod of the bridge.
            kernel.send(rtnl.no_ipv6_address(ifname, link.index), tolerate=errno.EAFNOSUPPORT)
        kernel.send(
            rtnl.link_flags(ifname, link.index, rtnl.IFF_UP),
            *(rtnl.address(ifname, link.index, item.packed, item.length) for item in addressing.addresses),
            *(
                rtnl.route(str(item), item.packed, item.length, link.index, gateway.packed if gateway else b"")
                for item, gateway in addressing.routes
            ),
        )
    return link


def _write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the present namespace, if it is not so: /proc/sys may be read-only in a container."""
    path = f"/proc/sys/{name}"
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 15 ms to import
        if file.read().strip() == value.encode():
            return
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123
        file.write(value.encode())
