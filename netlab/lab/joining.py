"""A node of its own for another cluster: it joins an API server that a kubeconfig names, and leaves it again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from netlab import files
from netlab.api.certificate_types import CLIENT, KUBELET_CLIENT, KUBELET_SERVING
from netlab.api.client import Client
from netlab.api.credentials import Inline, Source, Stored
from netlab.api.endpoint import Endpoint, Trust
from netlab.api.errors import ApiError
from netlab.api.resources import CONFIGMAPS, NODES, SERVICES
from netlab.errors import ConflictError, NetlabError, NotFoundError, TimedOutError, UsageError
from netlab.lab import credentials, joined, lifecycle, startup
from netlab.lab.lab import Lab
from netlab.lab.spec import Join, LabSpec
from netlab.net.addresses import socket_family
from netlab.node.certificates import Certified, Subject, obtain

if TYPE_CHECKING:
    from netlab.api.core_types import Node

_APPROVAL, _SERVING = 120.0, 5.0
"""Seconds for an administrator to approve a client's certificate, and the kubelet's own: it can do without that."""
_READY = 60.0
"""Seconds in which the node has to become Ready."""
_POLL = 0.05
_KUBELET = 10250

_PROXY_USER = "system:kube-proxy"
"""Upstream's user for kube-proxy: it may read Services, EndpointSlices and Nodes (system:node-proxier)."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What a node is to be: its name, and the address and the port (0: any) at which its cluster reaches it."""

    name: str
    address: str = ""
    port: int = 0
    cluster_cidrs: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    proxy: str = "nftables"
    client_ca: bytes | None = None
    """Who signs the certificates of the kubelet's clients (PEM); None: as the cluster says."""


def join(lab: Lab, server: Endpoint, wanted: Wanted, progress: Tell, warn: Tell) -> LabSpec:
    """Make a node, and wait until its cluster says that it is Ready. If that fails, nothing of it is left.

    `server` is the API server, with the credentials of the user who joins the node. Raises `ConflictError` when the
    node, or the lab, is there already, `TimedOutError` when a certificate is not approved or the node does not become
    Ready, `ApiError`, `ApiUnavailableError`, and what `lifecycle.up` raises.
    """
    if lab.exists():
        raise ConflictError(f"{lab.paths.directory} is there already: `netlab node leave --name {lab.name}` removes it")
    spec = _spec(server, wanted)
    assert spec.joins is not None
    progress("asking for certificates")
    given = asyncio.run(_certified(server, spec.joins, wanted, warn))

    def equip() -> None:
        assert spec.joins is not None
        joined.write(lab.paths, spec.joins)
        directory = lab.paths.credentials_of(wanted.name)
        directory.mkdir(mode=0o700, parents=True)
        for name, content in given.items():
            files.replace(directory / name, content.decode("ascii"))

    try:
        return lifecycle.up(lab, spec, progress, equip=equip)
    except BaseException:
        with contextlib.suppress(NetlabError):
            asyncio.run(_unregister(server, wanted.name))
        raise


def leave(lab: Lab, server: Endpoint) -> None:
    """Take the node down, and its Node out of its cluster, as the user of `server`: a node may not remove itself.

    Raises `NotFoundError` when there is no such node, `UsageError` when the lab or the cluster is another one, and
    `ApiError` or `ApiUnavailableError` when the Node stays.
    """
    if not lab.exists():
        raise NotFoundError(f"there is no node {lab.name!r} that has joined a cluster from here; see `netlab list`")
    if lab.spec().joins is None:
        raise UsageError(f"lab {lab.name} has an API server of its own: `netlab down --name {lab.name}` removes it")
    joins = joined.read(lab.paths)
    if server.url != joins.url:
        raise UsageError(f"node {joins.node} has joined {joins.url}, and not {server.url}")
    # First, or its kubelet would register again.
    lifecycle.down(lab)
    asyncio.run(_unregister(server, joins.node))


def wait_ready(lab: Lab, progress: Tell) -> None:
    """Wait until the cluster says that the node is Ready. Raises `TimedOutError` with the reason why it is not."""
    spec, joins = lab.spec(), joined.read(lab.paths)
    directory = lab.paths.credentials_of(joins.node)
    given = {path.name: path.read_bytes() for path in directory.iterdir()}
    progress("waiting until the node is Ready")
    asyncio.run(_wait_ready(lab, spec, joins.node, _endpoint(joins, given)))


def _spec(server: Endpoint, wanted: Wanted) -> LabSpec:
    url, trust = server.url, server.trust
    if not url.startswith("https:"):
        raise UsageError(f"the server {url} is not reached over TLS: a node needs https")
    if not trust.verify:
        raise UsageError(f"the server {url} is not verified: name who signed its certificate with --server-ca")
    joins = Join(node=wanted.name, url=url, serverName="", address="", port=0, podCIDRs=list(wanted.pod_cidrs))
    joins.serverName = trust.server_name or joins.server[0]
    joins.address = wanted.address or _own_address(*joins.server)
    joins.port = wanted.port or _free_port(joins.address)
    more = {"podCIDRs": list(wanted.cluster_cidrs)} if wanted.cluster_cidrs else {}
    families = ["IPv6" if ":" in each else "IPv4" for each in wanted.cluster_cidrs] or ["IPv4"]
    # The network is the node's alone, so routes lead nowhere; nothing is encapsulated.
    from netlab.lab.spec import from_values

    values = {"nodes": 1, "network": "routed", "proxy": wanted.proxy, "families": families, **more}
    spec = from_values(values, "netlab node join")
    spec.joins = joins
    return spec


def _own_address(host: str, port: int) -> str:
    """The address of this host from which it reaches a server. Raises `NetlabError`."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(place)
            address: str = probe.getsockname()[0]
    except OSError as error:
        raise NetlabError(f"the server {host} is not reached from here: {error.strerror or error}") from None
    return address


def _free_port(address: str) -> int:
    for port in (_KUBELET, 0):
        with contextlib.suppress(OSError), socket.socket(socket_family(address), socket.SOCK_STREAM) as probe:
            probe.bind((address, port))
            found: int = probe.getsockname()[1]
            return found
    raise UsageError(f"--node-ip: {address} is no address of this host")


async def _certified(server: Endpoint, joins: Join, wanted: Wanted, warn: Tell) -> dict[str, bytes]:
    """The files that the node's components need, by name. Notes where the cluster's DNS is."""
    async with Client(server, user_agent="netlab-node-join") as joining:
        if await _node(joining, wanted.name) is not None:
            raise ConflictError(
                f"node {wanted.name} is there already: take another --name, or `kubectl delete node {wanted.name}`"
            )
        joins.dns = await _dns(joining)
        given = {credentials.CLIENT_CA: wanted.client_ca or await _client_ca(joining, server.trust)}
        if server.trust.authority is not None:
            given[credentials.SERVER_CA] = server.trust.authority.read()
        subject = Subject.of_node(wanted.name)
        given |= _files(credentials.KUBELET, await obtain(joining, joining, KUBELET_CLIENT, subject, _APPROVAL))
        proxy = Subject(_PROXY_USER)
        given |= _files(credentials.KUBE_PROXY, await obtain(joining, joining, CLIENT, proxy, _APPROVAL))
        async with Client(_endpoint(joins, given), user_agent="netlab-node-join") as kubelet:
            serving = Subject.of_node(wanted.name, (wanted.name, joins.address))
            try:
                signed = await obtain(kubelet, joining, KUBELET_SERVING, serving, _SERVING)
                given |= _files(credentials.SERVING, signed)
            except TimedOutError as error:
                warn(f"{error}; until then its kubelet serves with a certificate of its own")
    return given


def _files(holder: str, certified: Certified) -> dict[str, bytes]:
    return {f"{holder}.crt": certified.certificate, f"{holder}.key": certified.key}


def _endpoint(joins: Join, given: dict[str, bytes]) -> Endpoint:
    """The API server, as the node's kubelet, from this host."""
    authority: Source | None = Inline(given[credentials.SERVER_CA]) if credentials.SERVER_CA in given else None
    stored = Stored(
        certificate=Inline(given[f"{credentials.KUBELET}.crt"]), key=Inline(given[f"{credentials.KUBELET}.key"])
    )
    return Endpoint(joins.url, trust=Trust(authority, True, joins.serverName), credentials=stored)


async def _node(client: Client, name: str) -> Node | None:
    """The Node of that name; None if there is none, or the user may not read it."""
    try:
        return await client.get(NODES, name)
    except ApiError as error:
        if error.reason not in ("NotFound", "Forbidden"):
            raise
        return None


async def _client_ca(client: Client, trust: Trust) -> bytes:
    """Who signs the certificates of the API server's clients, itself among them (kubelet --client-ca-file)."""
    with contextlib.suppress(ApiError):
        published = await client.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system")
        if text := published.data.get("client-ca-file"):
            return text.encode("ascii")
    if trust.authority is None:
        raise UsageError("nobody says who signs the certificates of the kubelet's clients: name it with --client-ca")
    return trust.authority.read()


async def _dns(client: Client) -> list[str]:
    """The addresses of the cluster's DNS, by the name that every cluster gives it; none if it is not there."""
    try:
        return (await client.get(SERVICES, "kube-dns", "kube-system")).spec.clusterIPs
    except ApiError as error:
        if error.reason not in ("NotFound", "Forbidden"):
            raise
        return []


async def _unregister(server: Endpoint, name: str) -> None:
    async with Client(server, user_agent="netlab-node-leave") as client:
        try:
            await client.delete(NODES, name)
        except ApiError as error:
            if error.reason == "Forbidden":
                raise NetlabError(f"node {name} is down, but its Node stays: {error}") from None
            if error.reason != "NotFound":
                raise


async def _wait_ready(lab: Lab, spec: LabSpec, name: str, server: Endpoint) -> None:
    boot_id = lab.paths.boot_id.read_text(encoding="ascii")
    deadline = monotonic() + _READY
    lacks = "it has not registered"
    async with Client(server, user_agent="netlab-node-join") as client:
        while True:
            node = await _node(client, name)
            if node is not None and node.status.nodeInfo is not None and node.status.nodeInfo.bootID == boot_id:
                ready = next((each for each in node.status.conditions if each.type == "Ready"), None)
                if ready is not None and ready.status == "True":
                    return
                lacks = _why(node, spec)
            if not lab.is_up():
                startup.raise_ended(lab.paths)
            startup.raise_failed(lab.paths)
            if monotonic() > deadline:
                said = startup.last_words(lab.paths, f"kubelet-{name}")
                raise TimedOutError(
                    f"node {name} is not Ready after {_READY:.0f} s: {lacks}{f' ({said})' if said else ''}"
                )
            await asyncio.sleep(_POLL)


def _why(node: Node, spec: LabSpec) -> str:
    if not node.spec.podCIDRs:
        return (
            "its cluster has given it no podCIDR: run kube-controller-manager with --allocate-node-cidrs, or join "
            "with --pod-cidr"
        )
    told = {each.type: each for each in node.status.conditions}
    for kind, bad in (("NetworkUnavailable", "True"), ("Ready", "False")):
        if kind in told and told[kind].status == bad and told[kind].message:
            return (
                f"{told[kind].message} (its podCIDRs {', '.join(node.spec.podCIDRs)}; --cluster-cidr "
                f"{', '.join(spec.podCIDRs)})"
            )
    return "its kubelet has not said that it is"
