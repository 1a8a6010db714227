"""The configuration of `netlab-portmap`: the keys of the Go plugin `portmap`, and runtimeConfig.portMappings."""

from __future__ import annotations

from netlab.cni.plugins.fields import address, objects, option
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object

_BACKENDS = ("iptables", "nftables")
_MARK_BIT = 13
"""The Go plugin's; kube-proxy has 14 and 15."""
# These name iptables chains and matches; ignoring them would map ports that must not be mapped.
_UNSUPPORTED = ("externalSetMarkChain", "conditionsV4", "conditionsV6")


PATH = "runtimeConfig.portMappings"
UNCHAINED = "missing; netlab-portmap must come after the main plugin"
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


class Mapping:
    """One of the portMappings: `host` is the node's address it is limited to, in network byte order, if it is to one.

    `bits` limits it to a family, 0 to none.
    """

    __slots__ = ("bits", "container_port", "host", "host_port", "path", "protocol")

    def __init__(self, item: Object, path: str) -> None:
        """Raises `CniError`."""
        self.path = path
        self.host_port = _port(item, "hostPort", path)
        self.container_port = _port(item, "containerPort", path)
        self.protocol: str = option(item, "protocol", str, "", f"{path}.").lower()
        if self.protocol not in PROTOCOLS:
            raise errors.invalid_config(
                f"{path}.protocol: {item.get('protocol')!r} must be one of {', '.join(PROTOCOLS)}",
            )
        text: str = option(item, "hostIP", str, "", f"{path}.")
        self.host, self.bits = b"", 0
        if text:
            number, self.bits = address(text, f"{path}.hostIP")
            if number:  # 0.0.0.0 and :: are any
                self.host = number.to_bytes(self.bits // 8, "big")


class Config:
    """All keys, checked, and the `mappings` that the runtime asks for.

    `snat`: masquerade clients that otherwise get no answer; `masquerade_all`: all clients; with the mark `mark_bit`.
    `backend` chooses between two ways to the same end, of which there is one here: both values are accepted.
    """

    __slots__ = ("mappings", "mark_bit", "masquerade_all", "snat")

    def __init__(self, request: Request) -> None:
        """Raises `CniError` naming the key and its value."""
        config = request.config
        self.snat: bool = option(config, "snat", bool, True)
        self.masquerade_all: bool = option(config, "masqAll", bool, False)
        self.mark_bit: int = option(config, "markMasqBit", int, _MARK_BIT)
        for key in _UNSUPPORTED:
            if config.get(key):
                raise CniError(
                    errors.UNSUPPORTED_FIELD,
                    f"{key}: {config[key]!r} is for iptables, but this is nftables; remove it",
                )
        if not 0 <= self.mark_bit <= 31:
            raise errors.invalid_config(f"markMasqBit: {self.mark_bit} must be between 0 and 31")
        backend = option(config, "backend", str, _BACKENDS[1])
        if backend not in _BACKENDS:
            raise errors.invalid_config(f"backend: {backend!r} must be {' or '.join(_BACKENDS)}")
        items = objects(request.runtime_config, "portMappings", "runtimeConfig.")
        self.mappings = [Mapping(item, path) for path, item in items]


def _port(item: Object, key: str, path: str) -> int:
    port: int = option(item, key, int, 0, f"{path}.")
    if not 1 <= port <= 65535:
        raise errors.invalid_config(f"{path}.{key}: {item.get(key)!r} must be a port, 1 to 65535")
    return port
