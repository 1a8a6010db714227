"""The configuration of `netlab-bandwidth`, and the name of the device that an attachment needs.

Directions are the container's: `ingress` is what it receives. `unshapedSubnets` and `shapedSubnets` refer to the far
end of a connection: the sender for ingress, the receiver for egress. (The Go plugin compares the receiver in both
directions, which for `ingress` is the container itself.)
"""

from __future__ import annotations

from _blake2 import blake2s

from netlab.cni.plugins.fields import option, prefix, strings
from netlab.cni.spec import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object
    from netlab.net.route.traffic_control import Shape, Subnet

UNCHAINED = "missing; this plugin must follow another one in a chain"
_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst", "unshapedSubnets", "shapedSubnets")
_LARGEST_RATE = (1 << 64) - 1
_LARGEST_BURST = 8 * 0xFFFFFFFF - 1
"""In bits; the same as the Go plugin's."""


class Config:
    """All keys, checked: the limits of what the container receives (`ingress`) and sends (`egress`), None for no limit.

    The network's own configuration takes precedence over the whole of `runtimeConfig.bandwidth`, as in the Go plugin:
    a pod's annotation cannot lift a limit that the administrator set.
    """

    __slots__ = ("egress", "ingress")

    def __init__(self, request: Request) -> None:
        """Raises `CniError` naming the key and its value."""
        entry, path = request.config, ""
        if all(entry.get(key) is None for key in _KEYS):
            entry = option(request.runtime_config, "bandwidth", dict, {}, "runtimeConfig.")
            path = "runtimeConfig.bandwidth."
        spared, meant = (_subnets(entry, key, path) for key in ("unshapedSubnets", "shapedSubnets"))
        if spared and meant:
            raise errors.invalid_config(
                f"{path}shapedSubnets: {entry['shapedSubnets']!r} excludes {path}unshapedSubnets; choose one",
            )
        self.ingress, self.egress = (
            _shape(entry, direction, path, meant or spared, only=bool(meant)) for direction in ("ingress", "egress")
        )


def device_name(request: Request) -> str:
    """The name of the attachment's ifb device: the Go plugin's prefix, and the same on every call."""
    return "bwp" + blake2s(request.owner.encode(), digest_size=6).hexdigest()


def _shape(entry: Object, direction: str, path: str, subnets: list[Subnet], *, only: bool) -> Shape | None:
    rate = _number(entry, f"{direction}Rate", path, _LARGEST_RATE)
    burst = _number(entry, f"{direction}Burst", path, _LARGEST_BURST)
    if bool(rate) != bool(burst):
        given, missing = ("Rate", "Burst") if rate else ("Burst", "Rate")
        raise errors.invalid_config(
            f"{path}{direction}{given}: {rate or burst} needs {direction}{missing} too, in bits"
        )
    if not rate:
        return None
    from netlab.net.route.traffic_control import Shape  # most pods have no limits

    # The kernel counts bytes; a rate of 0 would mean no limit.
    return Shape(max(rate // 8, 1), max(burst // 8, 1), subnets, only=only, source=direction == "ingress")


def _number(entry: Object, key: str, path: str, largest: int) -> int:
    number: int = option(entry, key, int, 0, path)
    if not 0 <= number <= largest:
        raise errors.invalid_config(f"{path}{key}: {number} must be between 0 (no limit) and {largest}")
    return number


def _subnets(entry: Object, key: str, path: str) -> list[Subnet]:
    texts = enumerate(strings(entry, key, path))
    found = [prefix(text, f"{path}{key}[{number}]") for number, text in texts]
    return [(subnet.packed, subnet.length) for subnet in found]
