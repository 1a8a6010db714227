"""`netlab trace`: one packet is predicted, sent, observed and explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from netlab.api.cluster import Cluster, pod_addresses
from netlab.capture.taps import Tap
from netlab.errors import NotFoundError, UnsupportedError, UsageError
from netlab.lab.lab import Lab
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.lab.places import find_pod
from netlab.net.addresses import family_of, host_port
from netlab.proxy.connection_ends import ends, narrowed
from netlab.trace import compare
from netlab.trace.account import Account
from netlab.trace.model import Lookup, Trace
from netlab.trace.observe import Watch
from netlab.trace.predict import predict
from netlab.trace.probe import Sender
from netlab.trace.reading import read
from netlab.trace.scene import met, rules, rules_met, scene, unready
from netlab.trace.state import Probe, Protocol, State

_ATTEMPTS = 3
"""At most this many probes are sent, each because the lab changed during the one before."""

NAME = "dns/"
"""How a DESTINATION begins that is a name for DNS."""

_DNS_PORT = 53

_NAMED = 3
"""At most this many changes are named."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to trace, as given on the command line.

    `size` is that of the IP packet in bytes (0: the smallest possible); `timeout` is in seconds.
    """

    source: str
    destination: str
    protocol: Protocol = "tcp"
    namespace: str = "default"
    size: int = 0
    timeout: float = 2.0


def trace(lab: Lab, request: Request, progress: Callable[[str], None] = lambda _: None) -> Trace:
    """Follow one packet. If the lab changed in the meantime and it is not delivered as predicted, send it again.

    Raises `NotFoundError` and `UsageError` for unknown names, `UnavailableError` for a lab that is down,
    `UnsupportedError` if this machine's kernel cannot do it.
    """
    notes: list[str] = []
    with NetworkEnvoy(lab) as envoy:
        given, lookup = request.destination, None
        if given.startswith(NAME):
            progress("looking the name up")
            request, lookup = _looked_up(lab, envoy, request)
        for left in reversed(range(_ATTEMPTS)):
            progress("reading the lab's state")
            found, changed = _followed(lab, envoy, request, progress)
            if not changed or (found.agrees and found.verdict.outcome == "delivered"):
                break
            what = f"{', '.join(changed[:_NAMED])}{' and more' if len(changed) > _NAMED else ''}"
            notes.append(
                f"{what} while the packet was under way: it was sent again"
                if left
                else f"{what} while the packet was under way: try again when the lab has settled"
            )
    if lookup is not None:
        found = msgspec.structs.replace(found, destination=f"{given} ({request.destination})", lookup=lookup)
    return msgspec.structs.replace(found, notes=[*notes, *found.notes])


def _looked_up(lab: Lab, envoy: NetworkEnvoy, request: Request) -> tuple[Request, Lookup]:
    """The request with an address in the place of its name, and what DNS said."""
    from netlab.dns.resolver import exchange
    from netlab.trace.lookup import look_up

    name, _, port = request.destination.removeprefix(NAME).partition(":")
    kind, _, source = request.source.rpartition("/")
    if kind not in ("", "pod", "pods", "po") or source in (OUTSIDE, FABRIC):
        raise UsageError(f"SOURCE {request.source}: only pods look names up; give the DESTINATION an address")
    pod = find_pod(lab.client(), source, request.namespace)
    network = next((each for each in envoy.listed() if each.owner == pod.key), None)
    if network is None:
        raise NotFoundError(f"{pod.key} has no network; `netlab get pods -A` shows whether it runs")

    def ask(server: str, question: bytes) -> bytes:
        return envoy.run(network, exchange, server, _DNS_PORT, question, tcp=False, seconds=request.timeout)

    lookup = look_up(lab, request.source, request.namespace, name, ask)
    families = {family_of(address) for address in pod_addresses(pod)}
    address = next((each for each in lookup.addresses if family_of(each) in families), lookup.addresses[0])
    destination = host_port(address, port) if port else address
    return dataclasses.replace(request, destination=destination), lookup


def _followed(
    lab: Lab, envoy: NetworkEnvoy, request: Request, progress: Callable[[str], None]
) -> tuple[Trace, list[str]]:
    """A packet that was followed, and what had changed in the lab by the end."""
    client = lab.client()
    begun = scene(client, envoy)
    rules_begun = rules(envoy, envoy.machines())
    outside = lab.spec().outside_addresses
    found = ends(request.source, request.destination, request.namespace, begun.cluster, outside, request.protocol)
    source, destination, _, port = narrowed(found)
    owner = _owner(source, begun.cluster, outside)
    taps = begun.taps
    namespaces = {network.owner: network for network in taps.values()}
    if owner not in namespaces:
        raise NotFoundError(f"{owner} has no network; `netlab get pods -A` shows whether it runs")
    make = partial(envoy.socket, namespaces[owner])
    try:
        sender = Sender(request.protocol, destination, port, request.size, make)
    except OSError as error:
        raise UnsupportedError(f"{owner}: no probe can be sent from there: {error.strerror}") from error
    with sender:
        probe = Probe(
            source=owner,
            destination=destination,
            protocol=request.protocol,
            port=port,
            source_port=sender.source_port,
            size=request.size,
            fragment=not request.size,
        )
        state = read(lab, probe, envoy)
        predicted = predict(state, probe)
        foreseen = [hop for path in predicted for hop in (*path.hops, *path.reply)]
        concerned = {owner, *(hop.owner for hop in foreseen)}
        watched = {tap: network for tap, network in taps.items() if _concerns(tap, network, concerned)}
        for hop in foreseen:
            if hop.kind == "loopback" and hop.owner in namespaces:
                watched[Tap(hop.node, hop.owner, hop.interface, hop.kind)] = namespaces[hop.owner]
        changed = list(rules_met(rules_begun, rules(envoy, envoy.machines())))
        progress("watching")
        with Watch(envoy, watched, state.proxies, sender.signature) as watch:
            rules_begun = rules(envoy, envoy.machines())  # its own are among them now
            progress("sending")
            result = sender.send(request.timeout)
            observed = watch.finish(sender, result, _stations(state))
            changed += rules_met(rules_begun, rules(envoy, envoy.machines()))
    account = Account(owner, observed, state)
    path = account.path()
    expected = compare.nearest(predicted, path)
    path = account.path(expected)
    differences = list(compare.differences(expected, path)) if expected else ["nothing was predicted"]
    if differences and observed.lost:
        differences.append("but the kernel reported more than could be read: try again when there is less traffic")
    ended = scene(client, envoy)
    followed = Trace(
        source=_named(owner),
        destination=_called(request.destination, destination, port),
        protocol=request.protocol,
        hops=path.hops,
        reply=path.reply,
        verdict=path.verdict,
        predicted=predicted,
        agrees=not differences,
        differences=differences,
        notes=list(unready(ended, destination, port)),
    )
    return followed, [*met(begun, ended), *dict.fromkeys(changed)]


def _owner(address: str, cluster: Cluster, outside: Iterable[str]) -> str:
    """Whose network namespace the source is in. Nodes come first: a pod with hostNetwork has its node's addresses."""
    if address in cluster.node_at:
        return cluster.node_at[address].metadata.name
    if address in cluster.pod_at:
        return cluster.pod_at[address].key
    if address in outside:
        return OUTSIDE
    raise UsageError(f"SOURCE {address}: nothing in the lab has this address, so no probe can be sent from it")


def _concerns(tap: Tap, network: Network, concerned: Iterable[str]) -> bool:
    """Whether to watch a tap: all taps of machines, as a packet may go astray, except veths to unconcerned pods."""
    if network.sandbox:
        return network.owner in concerned
    return tap.kind != "veth" or tap.peer.rpartition(" ")[0] in concerned


def _stations(state: State) -> dict[tuple[str, str], str]:
    """The interfaces that are not bridge ports, with their MAC addresses."""
    return {
        (owner, link.name): link.mac
        for owner, namespace in state.namespaces.items()
        for link in namespace.links
        if not link.master
    }


def _called(destination: str, address: str, port: int) -> str:
    """The destination as given, with the address and port if it does not contain them."""
    untold = [] if address in destination else [address]
    if port and not destination.endswith(f":{port}"):
        untold.append(f"port {port}")
    return f"{destination} ({' '.join(untold)})" if untold else destination


def _named(owner: str) -> str:
    return f"pod {owner}" if "/" in owner else owner if owner in (OUTSIDE, FABRIC) else f"node {owner}"
