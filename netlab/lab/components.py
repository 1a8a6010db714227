"""The components of the cluster: the configuration of each, and the machine in which it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.errors import UnsupportedError
from netlab.lab import bird, credentials
from netlab.lab.paths import CNI_BIN_DIR, CNI_DATA_DIR, FABRIC, OUTSIDE, PACKAGE, LabPaths, cni_plugin_dir
from netlab.lab.revisions import CONTROLLER_MANAGER, Publisher, enforcer, kube_proxy, network_agent
from netlab.lab.spec import CLUSTER_DOMAIN, Join, LabSpec
from netlab.lab.topology import NODE_INTERFACE
from netlab.net.addresses import of_family

if TYPE_CHECKING:
    from netlab.api.client import Client
    from netlab.api.endpoint import Endpoint
    from netlab.proxy.config import ProxyConfig
    from netlab.speaker.known import Known
    from netlab.speaker.link import LinkSpeaker
    from netlab.speaker.route import RouteSpeaker


_SYNC_SHARE, _QUICKEST_SYNC = 0.02, 0.1
"""The minimum seconds between a proxy's syncs, per node of the lab, and its lower bound: all proxies share this
machine. A lab of fifty nodes has upstream's second; with fewer nodes syncs can be more frequent."""
_POLL = 0.01
"""Seconds between two looks for a file that another process is about to write."""


@dataclasses.dataclass(frozen=True)
class Component:
    """A process of the cluster: it runs `body` in the namespaces of `machine` until it is ended."""

    name: str
    machine: str
    body: Callable[[], None]


def preload_cni() -> None:
    """Load only what the resident CNI processes need: they are forked before the daemon grows."""
    from netlab.cni.plugins.call import PLUGINS, handlers
    from netlab.cni.plugins.resident.serve import main  # noqa: F401

    for name in PLUGINS:
        handlers(name)


def preload() -> None:
    """Load what the other components need once, before they are forked."""
    import uvloop  # noqa: F401

    import netlab.cni.installation.install
    import netlab.controlplane.manager
    import netlab.node.kubelet
    import netlab.node.pod_network_agent
    import netlab.policy.run
    import netlab.proxy.run
    import netlab.speaker.link
    import netlab.speaker.route  # noqa: F401
    from netlab.api import decoding
    from netlab.api.resources import ALL

    for resource in ALL:
        if not resource.is_stored_only:
            decoding.prepare(resource)


def controller_manager(paths: LabPaths, spec: LabSpec) -> Component:
    """The scheduler and the controllers."""

    def body() -> None:
        import uvloop

        from netlab.controlplane.manager import ControlPlaneConfig, Endpoints, run

        masks = {
            4 if family == "IPv4" else 6: mask
            for family, mask in zip(spec.families, spec.nodeCIDRMaskSizes, strict=True)
        }
        config = ControlPlaneConfig(
            cluster_cidrs=spec.podCIDRs,
            node_cidr_mask_sizes=masks,
            authority=paths.pki,
            load_balancer_pools=spec.loadBalancerPools,
        )
        acted = Publisher(paths.revision(CONTROLLER_MANAGER))
        endpoints = Endpoints(
            _endpoint(paths, spec, FABRIC, credentials.CONTROLLER_MANAGER),
            _endpoint(paths, spec, FABRIC, credentials.SCHEDULER),
        )
        uvloop.run(run(endpoints, config, acted.publish))

    return Component(CONTROLLER_MANAGER, FABRIC, body)


def of_nodes(paths: LabPaths, spec: LabSpec) -> list[Component]:
    """For every node a kubelet (with the pod network's agent and the enforcer of policies) and a kube-proxy (with a
    speaker)."""
    listed: list[Component] = []
    client_ca = _authority(paths) if spec.joins is None else credentials.joined_client_ca(paths, spec.joins)
    for number, node in enumerate(spec.node_names, start=1):
        listed.append(_kubelet(paths, spec, node, number, client_ca))
        listed.append(_kube_proxy(paths, spec, node, number))
    return listed


def _authority(paths: LabPaths) -> str:
    """The certificate of the lab's authority, which the API server makes at its start. Nodes do not see the file."""
    from netlab.api.server.access.certificates import CERTIFICATE

    path = paths.pki / CERTIFICATE
    while not path.exists():
        time.sleep(_POLL)
    return path.read_text(encoding="ascii")


def resident_cni(node: str) -> Component:
    """The resident process to which CNI executables hand over, which saves starting the plugin."""

    def body() -> None:
        if "uvloop" in sys.modules:
            # A restart: by now the daemon is ten times as large, so execute a new interpreter instead of a fork.
            code = (
                f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
                "from netlab.cni.plugins.resident.serve import main; main()"
            )
            os.execv(sys.executable, [sys.executable, "-IS", "-c", code])  # noqa: S606 - no shell is the point
        from netlab.cni.plugins.resident.serve import main

        main()

    return Component(f"cni-{node}", node, body)


def gateway(paths: LabPaths, spec: LabSpec) -> Component:
    """What carries connections from a node to the API server of the cluster that it has joined."""
    node = spec.node_names[0]

    def body() -> None:
        from netlab.lab import gateway, relay

        api = _endpoint(paths, spec, node, credentials.KUBE_PROXY)
        gateway.serve(api, [credentials.GATEWAY], relay.into(paths.server_socket, os.geteuid()))

    return Component("gateway", node, body)


def _endpoint(paths: LabPaths, spec: LabSpec, machine: str, component: str) -> Endpoint:
    """How a component reaches the API: called in its own process, which alone reads its credentials."""
    from netlab.api.endpoint import Endpoint

    if spec.joins is not None:
        return credentials.joined_endpoint(paths, spec.joins, component)
    return Endpoint.of_socket(paths.components_socket, credentials.of(paths, machine, component))


def _kubelet(paths: LabPaths, spec: LabSpec, node: str, number: int, client_ca: str) -> Component:
    boot_id, joins = paths.boot_id.read_text(encoding="ascii"), spec.joins

    async def serve() -> None:
        import asyncio

        from netlab.api.client import Client
        from netlab.lab import cgroups
        from netlab.node import kubelet, pod_network_agent
        from netlab.node.context import KubeletConfig, ServingConfig
        from netlab.node.pod_network import NetworkConfig
        from netlab.node.podfiles import ClusterDNS
        from netlab.node.volumes import ROOT
        from netlab.policy import run as policies
        from netlab.policy.run import EnforcerConfig

        kubelet_config = KubeletConfig(
            node_name=node,
            api=_endpoint(paths, spec, node, credentials.KUBELET),
            machine_socket=paths.machine_socket(node),
            node_ips=spec.node_addresses(number) if joins is None else [joins.address],
            cni_conf_dir=paths.cni_conf_dir(node),
            cni_plugin_dirs=[_install_cni_plugins()],
            cni_cache_dir=CNI_DATA_DIR / "cache",
            log_dir=paths.pod_logs,
            client_ca=client_ca,
            boot_id=boot_id,
            max_pods=spec.maxPods,
            memory=cgroups.share().memory,
            dns=ClusterDNS(spec.dns_addresses if joins is None else joins.dns, CLUSTER_DOMAIN),
            serving=None if joins is None else ServingConfig(paths.kubelet_socket, joins.port, *_serving(paths, joins)),
            pod_cidrs=() if joins is None else tuple(joins.podCIDRs),
            pods_dir=ROOT if spec.runtime == "builtin" else paths.pods_dir(node),
            docker_socket=_docker_socket(paths, spec, node),
        )
        enforcer_config = EnforcerConfig(node, tuple(spec.families))
        network_config = NetworkConfig(
            node_name=node,
            network=spec.network,
            cluster_cidrs=tuple(spec.podCIDRs),
            mtu=spec.pod_mtu,
            # In another cluster this node may not read policies, and they are that cluster's own affair.
            policy_socket=str(enforcer_config.socket) if joins is None else "",
            cni_conf_dir=paths.cni_conf_dir(node),
            cni_data_dir=CNI_DATA_DIR,
            has_underlay=joins is None,
        )
        async with (
            Client(_endpoint(paths, spec, node, credentials.NETWORK), user_agent=f"netlab-network/{node}") as reader,
            Client(kubelet_config.api, user_agent=f"netlab-network/{node}") as reporter,
            asyncio.TaskGroup() as tasks,
        ):
            in_force = Publisher(paths.revision(network_agent(node)))
            tasks.create_task(pod_network_agent.run(reader, reporter, network_config, in_force.publish))
            if joins is None:
                enforced = Publisher(paths.revision(enforcer(node)))
                tasks.create_task(policies.run(reader, enforcer_config, enforced.publish))
            tasks.create_task(kubelet.run(kubelet_config))

    def body() -> None:
        import uvloop

        uvloop.run(serve())

    return Component(f"kubelet-{node}", node, body)


def _serving(paths: LabPaths, joins: Join) -> tuple[Path, Path] | tuple[None, None]:
    """The kubelet's serving certificate and its key; none if the cluster has signed none."""
    certificate, key = credentials.certificate_of(paths, joins, credentials.SERVING)
    return (certificate, key) if certificate.exists() else (None, None)


def _docker_socket(paths: LabPaths, spec: LabSpec, node: str) -> Path | None:
    """Where a node's kubelet asks a Docker engine for containers, once it can."""
    if spec.runtime == "builtin":
        return None
    socket = paths.docker_socket(node)
    while not socket.exists():
        time.sleep(_POLL)
    return socket


def _install_cni_plugins() -> Path:
    """Install the node's CNI_PATH in its /run: executables that name this interpreter start a sixth faster."""
    from netlab.cni.installation.client import BUILT
    from netlab.cni.installation.install import install_plugins

    try:
        install_plugins(CNI_BIN_DIR, BUILT if BUILT.exists() else None)
    except UnsupportedError:  # the interpreter's path has a space, or is too long for an executable's first line
        return cni_plugin_dir()
    return CNI_BIN_DIR


def proxy_config(spec: LabSpec, node: str) -> ProxyConfig:
    """The configuration of a node's kube-proxy."""
    from netlab.proxy.config import HEALTHZ, METRICS, ProxyConfig

    return ProxyConfig(
        node_name=node,
        mode=spec.proxy,
        cluster_cidrs=spec.podCIDRs,
        # Another cluster's are its own to tell.
        service_cidrs=tuple(spec.serviceCIDRs) if spec.joins is None else (),
        families=list(spec.families),
        healthz=HEALTHZ,
        metrics=METRICS,
        min_sync_seconds=min(max(_SYNC_SHARE * spec.nodes, _QUICKEST_SYNC), ProxyConfig.min_sync_seconds),
    )


def link_speaker(known: Known, client: Client, spec: LabSpec, number: int) -> LinkSpeaker:
    """What announces load balancers' addresses on the underlay, from node `number`."""
    from netlab.speaker.link import LinkConfig, LinkSpeaker

    source = next(iter(of_family(spec.node_addresses(number), "IPv6")), None)
    config = LinkConfig(spec.node_names[number - 1], NODE_INTERFACE, tuple(spec.loadBalancerPools), source)
    return LinkSpeaker(known, client, config)


def route_speaker(known: Known, spec: LabSpec, number: int) -> RouteSpeaker:
    """What announces load balancers' addresses to the lab's router, from node `number`."""
    from netlab.speaker.route import RouteSpeaker
    from netlab.speaker.session import Router

    own, router = spec.node_addresses(number), spec.outside_addresses[0]
    # A speaker's identifier has the form of an IPv4 address, whatever the lab's families.
    session = Router(router, bird.ROUTER_AS, bird.NODES_AS, f"192.0.2.{number}", tuple(own))
    return RouteSpeaker(known, session, tuple(spec.loadBalancerPools))


def router(spec: LabSpec) -> Component:
    """The lab's router, to which nodes announce load balancers' addresses by BGP: bird, in the outside."""
    return Component("bird", OUTSIDE, lambda: bird.execute(spec))


def _kube_proxy(paths: LabPaths, spec: LabSpec, node: str, number: int) -> Component:
    async def serve() -> None:
        import asyncio

        from netlab.api.client import Client
        from netlab.proxy import logs
        from netlab.proxy.run import run
        from netlab.speaker.known import Known

        logs.set_up("text")
        in_force = Publisher(paths.revision(kube_proxy(node)))
        async with contextlib.AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:

            async def client_of(component: str, agent: str) -> Client:
                return await clients.enter_async_context(Client(_endpoint(paths, spec, node, component), agent))

            known = Known()
            if spec.loadBalancerProtocol == "bgp":
                speaker: LinkSpeaker | RouteSpeaker = route_speaker(known, spec, number)
            else:
                client = await client_of(credentials.SPEAKER, f"netlab-speaker/{node}")
                speaker = link_speaker(known, client, spec, number)
            if spec.joins is None:  # another cluster has load balancers of its own
                tasks.create_task(speaker.run())
            client = await client_of(credentials.KUBE_PROXY, f"kube-proxy/{node}")
            tasks.create_task(run(client, proxy_config(spec, node), in_force=in_force.publish, follower=known))

    def body() -> None:
        import asyncio

        # Not uvloop: it fails when a program ends without reading its input (nft, iptables-save).
        asyncio.run(serve())

    return Component(kube_proxy(node), node, body)
