"""The configuration's `vxlan`: the tunnel to the other nodes, and the content of the peers file."""

from __future__ import annotations

from _blake2 import blake2s

from netlab.cni.plugins.fields import absolute_path, address, option
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_interface_name
from netlab.net.route.vxlan import VXLAN_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.codec import Object


class Tunnel:
    """All keys, checked, and with `read_peers` the content of the peers file.

    `peers` is None if an agent on the node manages the peers, and `mtu` is 0 if it follows from the underlay's.
    """

    __slots__ = ("device", "local_address", "mtu", "name", "peers", "peers_file", "port", "vni")

    def __init__(self, config: Object, mtu: int) -> None:
        """Raises `CniError` naming the key and its value."""
        given = option(config, "vxlan", dict, {})
        self.vni: int = option(given, "id", int, 1, "vxlan.")
        self.port: int = option(given, "port", int, VXLAN_PORT, "vxlan.")
        self.device: str = option(given, "device", str, "", "vxlan.")
        self.local_address: str = option(given, "localAddress", str, "", "vxlan.")
        self.name: str = option(given, "name", str, f"vxlan{self.vni}", "vxlan.")
        self.peers_file = absolute_path(given, "peersFile", "vxlan.")
        self.mtu = mtu
        if not 1 <= self.vni < 1 << 24:
            raise errors.invalid_config(f"vxlan.id: {self.vni} must be from 1 to {(1 << 24) - 1}")
        if not 1 <= self.port < 1 << 16:
            raise errors.invalid_config(f"vxlan.port: {self.port} must be from 1 to 65535")
        for key, name in (("name", self.name), ("device", self.device)):
            if name and not is_interface_name(name):
                raise errors.invalid_config(f"vxlan.{key}: {name!r} is not a valid interface name")
        if self.local_address:
            address(self.local_address, "vxlan.localAddress")
        elif not self.device:
            raise errors.invalid_config(
                "vxlan.device: name the link to the other nodes, or its address in vxlan.localAddress",
            )
        self.peers: bytes | None = None

    def read_peers(self) -> None:
        """Read the peers file as it is now. Raises `CniError` if it cannot be read."""
        if not self.peers_file:
            return
        try:
            with open(self.peers_file, "rb") as file:  # noqa: PTH123 - pathlib costs 15 ms to import
                self.peers = file.read()
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"vxlan.peersFile: {self.peers_file}: {error.strerror}") from error

    def mark(self) -> str:
        """The mark on a device that was brought to this state. No attachment's owner looks like it."""
        asked = (self.vni, self.port, self.device, self.local_address, self.mtu, self.peers)
        return "netlab vxlan " + blake2s(repr(asked).encode(), digest_size=16).hexdigest()
