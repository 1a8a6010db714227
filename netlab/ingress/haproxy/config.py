"""A routing table as HAProxy 2.6 reads it: haproxy.cfg, maps, and the list of certificates. Pure.

A request's host leads to a group (a map for each kind of host), and the group and the path to a backend (a map of whole
paths, and a tree of their beginnings). A request costs the same with ten rules and with ten thousand. Of users' words
only names of Services, hosts and paths come into the files, and `rules` has checked what they are made of.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

from netlab.ingress.haproxy import slots
from netlab.ingress.haproxy.slots import Slots
from netlab.ingress.model import Certificate, Host, HostKind, Path, PathKind, Rule, ServicePort, Table, in_order

CONFIG = "haproxy.cfg"
GENERATION = "NETLAB_GENERATION"
"""A variable of the process: which configuration it has."""

_CERTIFICATES = "certificates.list"
_EXACT_HOSTS, _ONE_LABEL_HOSTS = "hosts.map", "parents.map"
_EXACT_PATHS, _PREFIXES = "paths.map", "prefixes.map"
_ANY_GROUP = "g0"
_UNAVAILABLE = "unavailable"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where HAProxy listens, and where it takes commands."""

    socket: str
    """The path of its Unix socket."""
    http: int = 80
    https: int = 443
    ready: int = 8181
    """Where it says `GET /ready` that it serves."""
    ipv6: bool = True


def name_of(port: ServicePort) -> str:
    """A backend's name. Namespaces and Services are DNS labels, so no two are the same."""
    return f"{port.namespace}:{port.service}:{port.port}"


def destinations(table: Table) -> frozenset[ServicePort]:
    """Those of a table's rules."""
    return frozenset(rule.destination for rule in table.rules if rule.destination is not None)


def files(table: Table, servers: Mapping[ServicePort, Slots], settings: Settings, generation: int) -> dict[str, str]:
    """The text of each file, by name; `servers` has all destinations of the table."""
    found = {CONFIG: "".join(_config(servers, settings, generation, bool(table.certificates)))} | _maps(table.rules)
    entries = []
    for certificate in table.certificates:
        name = _file_of(certificate)
        found[name] = certificate.pem
        # A filter matches what a client asks for (SNI); without one the certificate would be everybody's.
        entries.append(f"{name} [alpn h2,http/1.1] {' '.join(certificate.hosts)}\n")
    return found | {_CERTIFICATES: "".join(entries)}


def _file_of(certificate: Certificate) -> str:
    return f"{hashlib.sha256(certificate.pem.encode()).hexdigest()[:32]}.pem"


def _config(
    servers: Mapping[ServicePort, Slots], settings: Settings, generation: int, has_certificates: bool
) -> Iterable[str]:
    # Who asks for a host that no certificate is for gets no other host's: the handshake fails (unrecognized_name).
    tls = f" ssl crt-list {_CERTIFICATES} strict-sni alpn h2,http/1.1"
    yield f"""\
global
    default-path config
    setenv {GENERATION} {generation}
    stats socket unix@{settings.socket} mode 600 level admin expose-fd listeners
    log stdout format raw local0 info
    no strict-limits
    maxconn 4096
    nbthread 1
    hard-stop-after 60s
    mworker-max-reloads 50
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    log global
    option dontlognull
    # A worker on its way out closes connections with their next answer, and not between a client's requests.
    option idle-close-on-response
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    timeout tunnel 1h
    timeout http-request 10s
    timeout http-keep-alive 30s

frontend ready
{_bind(settings, settings.ready)}
    no log
    http-request return status 200 content-type text/plain string "OK" if {{ path /ready }}
    http-request return status 404

frontend ingress
{_bind(settings, settings.http)}
{_bind(settings, settings.https, tls) if has_certificates else ""}
    log-format "%ci:%cp %{{+Q}}r %ST %b/%s %Ta ms"

    # What a client says of where it comes from is not to be believed.
    http-request del-header Forwarded
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}

    http-request set-var(txn.host) 'req.hdr(host),host_only,rtrim(.),lower'
    http-request set-var(txn.group) var(txn.host),map_str({_EXACT_HOSTS})
    acl has_group var(txn.group) -m found
    acl has_backend var(txn.backend) -m found
    http-request set-var(txn.parent) 'var(txn.host),regsub("^[^.]+","")'
    http-request set-var(txn.group) var(txn.parent),map_str({_ONE_LABEL_HOSTS}) unless has_group
    http-request set-var(txn.group) str({_ANY_GROUP}) unless has_group
    http-request set-var-fmt(txn.path) %[var(txn.group)]%[path]
    http-request set-var-fmt(txn.prefix) %[var(txn.group)]%[path]/
    http-request set-var(txn.backend) var(txn.path),map_str({_EXACT_PATHS})
    http-request set-var(txn.backend) var(txn.prefix),map_beg({_PREFIXES}) unless has_backend
    use_backend %[var(txn.backend)] if has_backend
    default_backend no-rule

backend no-rule
    http-request return status 404 content-type text/plain string "no Ingress has a rule for this host and path\\n"

backend {_UNAVAILABLE}
    http-request return status 503 content-type text/plain string "the Ingress names no Service that is there\\n"
"""
    for port, places in sorted(servers.items()):
        yield f"\nbackend {name_of(port)}\n"
        yield from (f"    {slots.line(number, each)}\n" for number, each in enumerate(places, start=1))


def _bind(settings: Settings, port: int, more: str = "") -> str:
    """A socket for each family: one for both would see clients of IPv4 by addresses of IPv6."""
    addresses = (f"0.0.0.0:{port}", *([f"[::]:{port} v6only"] if settings.ipv6 else []))
    return "\n".join(f"    bind {address}{more}" for address in addresses)


def _maps(rules: Iterable[Rule]) -> dict[str, str]:
    """The maps: of hosts to groups, and of groups with paths to backends."""
    of_host: dict[Host, list[Rule]] = {Host(): []}
    for rule in in_order(rules):
        of_host.setdefault(rule.host, []).append(rule)
    texts: dict[str, list[str]] = {name: [] for name in (_EXACT_HOSTS, _ONE_LABEL_HOSTS, _EXACT_PATHS, _PREFIXES)}
    for number, host in enumerate(of_host):
        group = _ANY_GROUP if host.kind is HostKind.ANY else f"g{number + 1}"
        if host.kind is HostKind.EXACT:
            texts[_EXACT_HOSTS].append(f"{host.name} {group}\n")
        elif host.kind is HostKind.ONE_LABEL:
            texts[_ONE_LABEL_HOSTS].append(f".{host.name} {group}\n")
        rules_of_host = [rule for each in host.covering() for rule in of_host.get(each, ())]
        for path, rule in _decided(rules_of_host).items():
            backend = name_of(rule.destination) if rule.destination is not None else _UNAVAILABLE
            if path.kind is PathKind.EXACT:
                texts[_EXACT_PATHS].append(f"{group}{path.value} {backend}\n")
            else:
                texts[_PREFIXES].append(f"{group}{path.value}/ {backend}\n")
    return {name: "".join(lines) for name, lines in texts.items()}


def _decided(rules: Iterable[Rule]) -> dict[Path, Rule]:
    """For each path that a rule has: which rule decides about a request for it, and for what no longer path is for.

    That is not always the path's own: rules of a more specific host, whatever their paths, come first.
    """
    first: dict[Path, tuple[int, Rule]] = {}
    for place, rule in enumerate(rules):
        first.setdefault(rule.path, (place, rule))
    return {
        path: min((first[each] for each in path.covering() if each in first), key=lambda found: found[0])[1]
        for path in first
    }
