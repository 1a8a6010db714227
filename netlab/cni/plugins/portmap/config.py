"""The plugin's configuration, checked: the keys of the Go plugin `portmap`."""

from __future__ import annotations

from netlab.cni.plugins.fields import option
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


class Config:
    """`snat`: masquerade clients that otherwise get no answer; `masquerade_all`: all clients; with the mark `mark_bit`.

    `backend` chooses between two ways to the same end, of which there is one here: both values are accepted.
    """

    __slots__ = ("mark_bit", "masquerade_all", "snat")

    def __init__(self, request: Request) -> None:
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
            raise CniError(errors.INVALID_CONFIG, f"markMasqBit: {self.mark_bit} must be between 0 and 31")
        backend = option(config, "backend", str, _BACKENDS[1])
        if backend not in _BACKENDS:
            raise CniError(errors.INVALID_CONFIG, f"backend: {backend!r} must be {' or '.join(_BACKENDS)}")


def previous_result(request: Request) -> Object:
    """The result of the plugin before. Raises `CniError`: this one adds no interface, and must come after one."""
    result = request.prev_result
    if result is None:
        raise CniError(
            errors.INVALID_CONFIG,
            "prevResult: missing; netlab-portmap must come after the main plugin",
        )
    return result
