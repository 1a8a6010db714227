"""Where a lab keeps its files: one directory, and nothing outside it."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.errors import NetlabError, UsageError
from netlab.net.peers import GUARD

if TYPE_CHECKING:
    from netlab.lab.spec import LabSpec

PACKAGE = Path(__file__).resolve().parent.parent
"""The netlab package."""

FABRIC = "fabric"
"""The first machine of a lab: the underlay."""

OUTSIDE = "outside"
"""The machine that is the world outside the cluster."""

CNI_BIN_DIR = Path("/run/netlab/cni/bin")
"""A node's CNI plugins."""

CNI_DATA_DIR = Path("/run/netlab/cni")
"""A node's CNI state (reservations and cached results): in the node's /run, because both end with the node."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_LONGEST_SOCKET_PATH = 107
"""sun_path is 108 bytes with its terminating zero (unix(7))."""


class _Entry:
    """A file or folder in a lab's directory; read from `LabPaths`, its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, paths: LabPaths, kind: type) -> Path:
        return paths.directory / self.name


@dataclasses.dataclass(frozen=True)
class LabPaths:
    """The files of one lab (docs/architecture.md, "A lab on disk")."""

    directory: Path

    @classmethod
    def of(cls, name: str) -> LabPaths:
        """The paths of the lab called `name`, below `$NETLAB_HOME` or the user's default.

        Raises `UsageError` for a name that is not a DNS label, or a directory too long for a Unix socket, and what
        `require_home` raises.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"lab name {name!r} is not a DNS label; use lower-case letters, digits and '-', up to 32")
        paths = cls(require_home() / name)
        longest = os.fsencode(paths.machine_socket("outside-or-node-100"))
        if len(longest) > _LONGEST_SOCKET_PATH:
            raise UsageError(
                f"the lab's directory {paths.directory} is too long for a Unix socket's path "
                f"({len(longest)} bytes, {_LONGEST_SOCKET_PATH} at most): set NETLAB_HOME to a shorter one"
            )
        return paths

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.directory.name

    spec = _Entry("lab.json")
    """The lab's specification (LabSpec)."""
    lock = _Entry("lock")
    """Locked (flock) while the lab is up."""
    monitor_pid = _Entry("monitor.pid")
    """The lab monitor's process id and start time."""
    api_socket = _Entry("api.sock")
    """The socket of the Kubernetes API."""
    shared = _Entry("shared")
    """What all machines of the lab see."""
    credentials = _Entry("credentials")
    """The components' tokens for the API."""
    tls_socket = _Entry("tls.sock")
    """The socket of the Kubernetes API over TLS: what comes to the host's loopback goes there."""
    api_port = _Entry("api-port")
    """The host's port at which the API is reached over TLS."""
    kubeconfig = _Entry("kubeconfig")
    """Where `netlab up --kubeconfig` wrote the lab's kubeconfig: the path of a file."""
    pki = _Entry("pki")
    """The certificate authority of the lab, and its keys."""
    guard = _Entry(GUARD)
    """The socket on which the lab monitor vouches for callers."""
    machine_pid = _Entry("machine.pid")
    """The process id and start time of the first machine's pid 1."""
    cgroups = _Entry("cgroups")
    """The directories of the lab's cgroups, one a line, from before they are made until they are removed."""
    engine = _Entry("engine")
    """The address of the Docker engine that runs the lab's containers, if one does."""
    runtimes = _Entry("runtimes")
    """The sockets at which nodes ask for a Docker engine's containers, a folder for each node."""
    privileged = _Entry("privileged")
    """Exists if the lab runs without a user namespace, as root of this host."""
    boot_id = _Entry("boot_id")
    """An id for this run of the lab, from its start to its end, like the kernel's boot id."""
    components = _Entry("components.json")
    """What the daemon runs: a JSON object for each component."""
    revisions = _Entry("revisions")
    """How far each component has followed the API: a file for each (netlab.lab.revisions)."""
    api_config = _Entry("apiserver.json")
    """The API server's configuration."""
    database = _Entry("cluster.db")
    """The API server's objects."""
    etcd = _Entry("etcd")
    """The data and the sockets of the lab's etcd, if that keeps its objects."""
    logs = _Entry("logs")
    """The output of components and containers."""
    machines = _Entry("machines")
    """The sockets of the machines' pid 1."""
    nodes = _Entry("nodes")
    """The nodes' configuration."""
    ids = _Entry("ids")
    """The first of the ids that root's lab has on this host."""

    @property
    def components_socket(self) -> Path:
        """The socket of the Kubernetes API for the lab's components, which show who they are."""
        return self.shared / "api.sock"

    @property
    def server_socket(self) -> Path:
        """What comes there, of a node that has joined another cluster, goes to the cluster's API server."""
        return self.shared / "server.sock"

    @property
    def kubelet_socket(self) -> Path:
        """The socket of the kubelet of a node that has joined another cluster: what comes to its port goes there."""
        return self.shared / "kubelet.sock"

    def credentials_of(self, machine: str) -> Path:
        """The tokens of the components in one machine."""
        return self.credentials / machine

    @property
    def pod_logs(self) -> Path:
        """The output of containers."""
        return self.logs / "pods"

    def revision(self, component: str) -> Path:
        """How far a component has followed the API."""
        return self.revisions / component

    def machine_socket(self, machine: str) -> Path:
        """The socket of a machine's pid 1."""
        return self.machines / f"{machine}.sock"

    def runtime_dir(self, node: str) -> Path:
        """What a node sees of its Docker engine."""
        return self.runtimes / node

    def docker_socket(self, node: str) -> Path:
        """Where a node asks for a Docker engine's containers."""
        return self.runtime_dir(node) / "docker.sock"

    def runtime_socket(self, node: str) -> Path:
        """Where, from outside, a node's containers are asked for: its machine, or a Docker engine."""
        return self.docker_socket(node) if self.engine.exists() else self.machine_socket(node)

    def pods_dir(self, node: str) -> Path:
        """The volumes of a node's pods, where a Docker engine sees them too."""
        return self.nodes / node / "pods"

    def cni_conf_dir(self, node: str) -> Path:
        """A node's CNI configuration (a kubelet's --cni-conf-dir)."""
        return self.nodes / node / "net.d"

    def visible_to(self, node: str) -> list[Path]:
        """What a node sees of the lab's directory, besides its own socket: what its components need."""
        engine = [self.runtime_dir(node)] if self.engine.exists() else []
        return [self.shared, self.credentials_of(node), self.nodes / node, self.pod_logs, self.revisions, *engine]

    def make(self, nodes: list[str]) -> None:
        """Make the directories; existing ones are kept."""
        for directory in (self.directory, self.logs, self.pod_logs, self.machines, self.shared, self.revisions):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for node in nodes:
            self.cni_conf_dir(node).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.runtime_dir(node).mkdir(mode=0o700, parents=True, exist_ok=True)

    def is_labs(self) -> bool:
        """Whether the directory is a lab, perhaps half made or half removed: it contains only files of a lab."""
        if self.directory.is_symlink() or not self.directory.is_dir():
            return False
        return self.spec.exists() or all(_is_of_a_lab(path.name) for path in self.directory.iterdir())

    def read_spec(self) -> LabSpec:
        """The lab's specification. Raises `NetlabError` when it cannot be read, or is not valid."""
        import msgspec

        from netlab.lab.spec import LabSpec

        try:
            spec = msgspec.json.decode(self.spec.read_bytes(), type=LabSpec)
            spec.validate()
        except (OSError, msgspec.MsgspecError, UsageError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            remedy = f"`netlab down --name {self.name}` removes the lab"
            raise NetlabError(f"lab {self.name}: {self.spec} cannot be read: {reason}; {remedy}") from None
        return spec


def _is_of_a_lab(name: str) -> bool:
    """Whether a lab may have a file of that name: the database has others beside it, and a new one is renamed."""
    own = {each.name for each in vars(LabPaths).values() if isinstance(each, _Entry)}
    return name.removeprefix(".").removesuffix(".new") in own or name.startswith("cluster.db")


def home() -> Path:
    """The directory of all labs: `$NETLAB_HOME`, `/var/lib/netlab` as root, else under `$XDG_STATE_HOME`."""
    if chosen := os.environ.get("NETLAB_HOME"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/netlab")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "netlab"


def require_home() -> Path:
    """The directory of all labs. Raises `UsageError` if it cannot be one, or this user may not enter it.

    It need not exist.
    """
    directory = home()
    existing = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise UsageError(
            f"{existing} is not a directory, so there can be no labs in {directory}; set NETLAB_HOME to one"
        )
    if not os.access(existing, os.R_OK | os.X_OK):
        raise UsageError(f"{existing} is not readable for uid {os.geteuid()}; set NETLAB_HOME to a directory of yours")
    return directory


def images_dir() -> Path:
    """The images that all labs of this user share, beside them; no lab has a name with a dot."""
    return require_home() / ".images"


def cni_plugin_dir() -> Path:
    """The CNI_PATH: `cni_plugins/` in the checkout, or its copy in an installed package."""
    checkout = PACKAGE.parent / "cni_plugins"
    return checkout if checkout.is_dir() else PACKAGE / "data" / "cni_plugins"


def scenarios_dir() -> Path:
    """The scenarios that come with netlab: in the checkout, or their copy in an installed package."""
    checkout = PACKAGE.parent / "scenarios"
    return checkout if checkout.is_dir() else PACKAGE / "data" / "scenarios"
