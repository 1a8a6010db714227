"""The nftables data plane: frontends and endpoints are elements of maps, so that rules and chains stay few.

    services       address . protocol . port      : goto cluster-tcp-3    what a ClusterIP leads to
    endpoints-tcp  address . port . random mod 3  : address . port        one element for each endpoint

There is one `pick-N` chain for each number of endpoints that occurs, not one for each Service; NodePorts have maps of
their own, keyed by protocol and port, which only packets to the node's own addresses reach. Every frontend has its own
list, so that traffic policies and terminating endpoints are settled when the list is made, not in the packet's path.
Removing endpoint i of N moves the last one into its place: a change costs what it changes.

Session affinity alone has chains and sets of its own per endpoint: a rule must name the endpoint that it remembers
(nft's grammar has no map lookup as the value of a dynamic map's element), and an endpoint's memory must go with it.

Written for nft 1.0.1 or newer and Linux 5.13 or newer, as upstream's nftables mode. The tables are `ip kube-proxy` and
`ip6 kube-proxy`, upstream's own names, so that two proxies cannot both be in force; no other table is read or changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from netlab.proxy.plan import PROTOCOLS, Endpoint, Family, Frontend, Scope, Target, Transaction, Verdict

TABLE = "kube-proxy"
MASQUERADE_MARK = 0x4000
"""The bit of the packet's mark that asks for masquerading: upstream's default, masqueradeBit 14."""

NFT_FAMILY: Mapping[Family, str] = {"IPv4": "ip", "IPv6": "ip6"}
_LOOPBACK: Mapping[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1"}


class Item(NamedTuple):
    """A thing in the table: an element of the map or set `name`, or the chain or set `name` itself."""

    kind: Literal["element", "chain", "set"]
    name: str
    key: str = ""


Content: TypeAlias = str | tuple[str, ...]
"""An element's value, a chain's rules, a set's declaration."""


class Operation(NamedTuple):
    """One step of a batch; `content` is None for a deletion."""

    item: Item
    content: Content | None


class Ruleset:
    """What a family's table holds, and the operations that lead to a new plan. Pure: it never meets a kernel."""

    def __init__(self, family: Family, cluster_cidrs: Sequence[str], *, masquerade_all: bool = False) -> None:
        self.family = family
        self._ip = NFT_FAMILY[family]
        self._cidrs = cluster_cidrs
        self._masquerade_all = masquerade_all
        self._uses: dict[Item, int] = {}
        """How many frontends need each thing."""
        self._rules: dict[str, int] = {}
        """How many rules each chain has."""
        self._slots: dict[tuple[Frontend, str], tuple[Endpoint, ...]] = {}

    @property
    def items(self) -> Iterable[Item]:
        """Everything that depends on the plan and is there now."""
        return self._uses.keys()

    def change(self, transaction: Transaction) -> list[Operation]:
        """Take on a transaction; the operations it takes, in an order in which the kernel accepts them."""
        old: dict[Item, Content] = {}
        new: dict[Item, Content] = {}
        touched: dict[Item, int] = {}
        for frontend, before, after in transaction:
            for item, content in self._lower(frontend, before) if before else ():
                old[item] = content
                touched[item] = touched.get(item, 0) - 1
            self._arrange(frontend, "cluster", after.cluster if after else ())
            self._arrange(frontend, "local", after.local if after else ())
            for item, content in self._lower(frontend, after) if after else ():
                new[item] = content
                touched[item] = touched.get(item, 0) + 1
        deleted: list[Operation] = []
        added: list[Operation] = []
        for item, balance in touched.items():
            had = self._uses.get(item, 0)
            if had + balance == 0:
                del self._uses[item]
                if item.kind == "chain":
                    del self._rules[item.name]
                deleted.append(Operation(item, None))
                continue
            self._uses[item] = had + balance
            if had and item in old and item in new and old[item] != new[item]:
                deleted.append(Operation(item, None))
            if not had or (item in old and item in new and old[item] != new[item]):
                added.append(Operation(item, new[item]))
                if item.kind == "chain":
                    self._rules[item.name] = len(new[item])
        return [*deleted, *added]

    def _arrange(self, frontend: Frontend, which: str, wanted: tuple[Endpoint, ...]) -> None:
        """Give endpoints their slots 0..N-1 so that as few as possible change hands."""
        slots = arrange(self._slots.get((frontend, which), ()), wanted)
        if slots:
            self._slots[frontend, which] = slots
        else:
            self._slots.pop((frontend, which), None)

    # --- From a frontend to items ------------------------------------------------------------------------------

    def _lower(self, frontend: Frontend, target: Target) -> Iterator[tuple[Item, Content]]:
        port = f"{frontend.protocol} . {frontend.port}"
        key = port if frontend.address is None else f"{frontend.address} . {port}"
        prefix = "nodeport-" if frontend.address is None else ""
        services = "nodeports" if frontend.address is None else "services"
        if target.scope is Scope.INTERNAL:
            yield Item("element", "cluster-ips", frontend.address or ""), ""
        yield from self._hairpins(target)

        if target.short_cut and target.cluster:
            inside = yield from self._list(frontend, target, "cluster", prefix)
            yield Item("element", f"inside-{services}", key), f"goto pick-{inside}"
            if target.local:
                outside = yield from self._list(frontend, target, "local", prefix)
                chain, rest = f"{prefix}external-{outside}", f"goto pick-{outside}"
            else:
                chain, rest = f"{prefix}external-none", "drop"
            yield Item("chain", chain), (*self._to_inside(f"goto {prefix}inside"), rest)
            yield Item("element", services, key), f"goto {chain}"
        elif target.endpoints:
            token = yield from self._list(frontend, target, "local" if target.policy == "Local" else "cluster", prefix)
            entry, masquerade = ("masquerade", "jump mark-masquerade")
            if target.scope is Scope.INTERNAL:
                entry, masquerade = "cluster", self._off_cluster()
            rules = tuple(rule for rule in (masquerade, f"goto pick-{token}") if rule)
            yield Item("chain", f"{entry}-{token}"), rules
            yield Item("element", services, key), f"goto {entry}-{token}"
        elif target.verdict is Verdict.DROP:
            yield Item("element", services, key), "drop"
        elif target.scope is Scope.EXTERNAL:
            # A ClusterIP without endpoints is refused like a wrong port of it, by `cluster-ips`.
            yield Item("element", f"{prefix}no-endpoints", key), ""

    def _list(
        self, frontend: Frontend, target: Target, which: str, prefix: str
    ) -> Generator[tuple[Item, Content], None, str]:
        """Items of a frontend's list; returns the token in the name of the chain that picks from it."""
        slots = self._slots[frontend, which]
        if target.affinity_seconds:
            return (yield from self._sticky(frontend, target, which, slots))
        local = "local-" if which == "local" else ""
        name = f"{prefix}{local}{frontend.protocol}"
        token = f"{name}-{len(slots)}"
        fields = self._list_key(frontend.protocol, nodeport=frontend.address is None)
        pick = f"dnat {self._ip} to {fields} . numgen random mod {len(slots)} map @endpoints-{name}"
        yield Item("chain", f"pick-{token}"), (pick,)
        dialled = str(frontend.port) if frontend.address is None else f"{frontend.address} . {frontend.port}"
        for slot, endpoint in enumerate(slots):
            yield Item("element", f"endpoints-{name}", f"{dialled} . {slot}"), f"{endpoint.address} . {endpoint.port}"
        return token

    def _list_key(self, protocol: str, *, nodeport: bool) -> str:
        """What a list is found by, without the slot.

        A map for each protocol, because nft 1.0.6 refuses a rule with `th dport . numgen` in the key and `th dport`
        in the value unless the map is declared in the same script ("conflicting protocols specified: ip vs. th").
        """
        return f"{protocol} dport" if nodeport else f"{self._ip} daddr . {protocol} dport"

    def _sticky(
        self, frontend: Frontend, target: Target, which: str, slots: Sequence[Endpoint]
    ) -> Generator[tuple[Item, Content], None, str]:
        """A Service port's chain with session affinity: shared by its frontends, so that a client keeps its pod."""
        # Sorted: all frontends of the Service port must give the shared chain the same rules.
        slots = sorted(slots)
        identity = f"{target.service} {frontend.protocol} {target.affinity_seconds}"
        remembered, choices = [], []
        for slot, endpoint in enumerate(slots):
            name = _hash(identity, endpoint.address, str(endpoint.port))
            clients = Item("set", f"clients-{name}")
            yield (
                clients,
                (f"typeof {self._ip} saddr; flags dynamic,timeout; timeout {target.affinity_seconds}s; size 65535;"),
            )
            host = f"[{endpoint.address}]" if self.family == "IPv6" else endpoint.address
            yield (
                Item("chain", f"endpoint-{name}"),
                (
                    f"update @{clients.name} {{ {self._ip} saddr }}",
                    f"meta l4proto {frontend.protocol} dnat {self._ip} to {host}:{endpoint.port}",
                ),
            )
            remembered.append(f"{self._ip} saddr @{clients.name} goto endpoint-{name}")
            choices.append(f"{slot} : goto endpoint-{name}")
        token = f"sticky-{which}-{_hash(identity)}"
        choose = f"numgen random mod {len(slots)} vmap {{ {', '.join(choices)} }}"
        yield Item("chain", f"pick-{token}"), (*remembered, choose)
        return token

    def _hairpins(self, target: Target) -> Iterator[tuple[Item, Content]]:
        """A pod that reaches itself must see a foreign source, or it answers itself without undoing the NAT.

        Only pods of this node can: their packets are the only ones that come and go through here.
        """
        for address in {
            endpoint.address for endpoint in (*target.cluster, *target.local) if endpoint.local is not False
        }:
            yield Item("element", "hairpins", f"{address} . {address}"), ""

    def _off_cluster(self) -> str:
        """The rule that masquerades what goes to a ClusterIP from elsewhere than a pod; empty if there is none."""
        if self._masquerade_all:
            return "jump mark-masquerade"
        return f"{self._ip} saddr != {{ {', '.join(self._cidrs)} }} jump mark-masquerade" if self._cidrs else ""

    def _to_inside(self, inside: str) -> tuple[str, ...]:
        """Pods keep their source; the node itself would have its own external address as source, so it does not."""
        pods = f"{self._ip} saddr {{ {', '.join(self._cidrs)} }} {inside}"
        node = ("fib saddr type local jump mark-masquerade", f"fib saddr type local {inside}")
        return (pods, *node) if self._cidrs else node

    def inventory(self) -> Counter[str]:
        """How many rules each chain, and how many elements each set and map has; each is counted once itself."""
        counted: Counter[str] = Counter()
        for block in self._base():
            counted[f"{block.counted_as} {block.name}"] += 1 + len(block.rules)
        for kind, name, _ in self._uses:
            counted[f"{'chain' if kind == 'chain' else 'set'} {name}"] += 1
        for name, rules in self._rules.items():
            counted[f"chain {name}"] += rules
        return counted

    # --- Text --------------------------------------------------------------------------------------------------

    def render(self, operations: Iterable[Operation]) -> str:
        """The operations as a script for `nft -f`: declarations before uses, uses away before declarations."""
        table = f"{self._ip} {TABLE}"
        gone, come = (
            _by_kind(op for op in operations if op.content is None),
            _by_kind(op for op in operations if op.content is not None),
        )
        come_names = {op.item for op in come["chain"]}
        lines = [f"add set {table} {op.item.name} {{ {''.join(op.content or ())} }}" for op in come["set"]]
        lines += [f"add chain {table} {op.item.name}" for op in come["chain"]]
        lines += _elements("delete", table, gone["element"])
        lines += [f"flush chain {table} {op.item.name}" for op in gone["chain"]]
        lines += [f"add rule {table} {op.item.name} {rule}" for op in come["chain"] for rule in op.content or ()]
        lines += _elements("add", table, come["element"])
        lines += [f"delete chain {table} {op.item.name}" for op in gone["chain"] if op.item not in come_names]
        lines += [f"delete set {table} {op.item.name}" for op in gone["set"]]
        return "\n".join(lines) + "\n" if lines else ""

    def render_all(self, operations: Iterable[Operation]) -> str:
        """A script that puts a new table in place of whatever is there, in one transaction.

        Established connections go on: their translation is in the connection tracking, not in the table.
        """
        table = f"table {self._ip} {TABLE}"
        return (
            f"add {table}\ndelete {table}\n{table} {{\n{''.join(map(str, self._base()))}}}\n{self.render(operations)}"
        )

    def _base(self) -> Iterator[_Block]:
        """What is there whatever the Services are."""
        ip = self._ip
        own = f"fib daddr type local {ip} daddr != {_LOOPBACK[self.family]}"
        address, port = f"{ip} daddr . meta l4proto . th dport", "meta l4proto . th dport"
        yield _Block("set", "cluster-ips", f"typeof {ip} daddr")
        yield _Block("set", "hairpins", f"typeof {ip} saddr . {ip} daddr")
        for prefix, services, key in (("", "services", address), ("nodeport-", "nodeports", port)):
            yield _Block("map", services, f"typeof {key} : verdict")
            yield _Block("map", f"inside-{services}", f"typeof {key} : verdict")
            for protocol in PROTOCOLS.values():
                fields = self._list_key(protocol, nodeport=bool(prefix))
                elements = f"typeof {fields} . numgen random mod 2 : {ip} daddr . {protocol} dport"
                yield _Block("map", f"endpoints-{prefix}{protocol}", elements)
                yield _Block("map", f"endpoints-{prefix}local-{protocol}", elements)
            yield _Block("set", f"{prefix}no-endpoints", f"typeof {key}")
            yield _Block("chain", f"{prefix}inside", "", (f"{key} vmap @inside-{services}",))
        mark = f"{MASQUERADE_MARK:#x}"
        yield _Block("chain", "mark-masquerade", "", (f"meta mark set meta mark | {mark}",))
        yield _Block("chain", "dispatch", "", (f"{address} vmap @services", f"{own} {port} vmap @nodeports"))
        for hook in ("prerouting", "output"):
            yield _Block("chain", f"nat-{hook}", f"type nat hook {hook} priority -100", ("jump dispatch",))
        masquerade = (
            f"meta mark & {mark} == {mark} meta mark set meta mark ^ {mark} masquerade fully-random",
            f"ct status dnat {ip} saddr . {ip} daddr @hairpins masquerade fully-random",
        )
        yield _Block("chain", "nat-postrouting", "type nat hook postrouting priority 100", masquerade)
        refuse = (
            f"{address} @no-endpoints reject",
            f"{own} {port} @nodeport-no-endpoints reject",
            # No Service is translated here any more: a port that the Service has not, or one without endpoints.
            f"{ip} daddr @cluster-ips reject",
        )
        yield _Block("chain", "refuse", "", refuse)
        for hook in ("input", "forward", "output"):
            # Connections that were let through once go on: only new ones are refused.
            new = "ct state new jump refuse"
            yield _Block("chain", f"filter-{hook}", f"type filter hook {hook} priority 0", (new,))


class _Block(NamedTuple):
    """A declaration of a set, a map or a chain with its rules."""

    kind: Literal["set", "map", "chain"]
    name: str
    declaration: str
    rules: tuple[str, ...] = ()

    @property
    def counted_as(self) -> str:
        return "chain" if self.kind == "chain" else "set"

    def __str__(self) -> str:
        lines = [line for line in (self.declaration, *self.rules) if line]
        return f"  {self.kind} {self.name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def arrange(old: Sequence[Endpoint], wanted: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The wanted endpoints in slots: those that stay keep theirs unless it is beyond the new end."""
    fresh = set(wanted)
    slots: list[Endpoint | None] = [endpoint if endpoint in fresh else None for endpoint in old[: len(fresh)]]
    slots += [None] * (len(fresh) - len(slots))
    homeless = iter(sorted(fresh.difference(slot for slot in slots if slot is not None)))
    return tuple(next(homeless) if slot is None else slot for slot in slots)


def _by_kind(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    sorted_: dict[str, list[Operation]] = {"set": [], "chain": [], "element": []}
    for operation in operations:
        sorted_[operation.item.kind].append(operation)
    return sorted_


def _elements(verb: str, table: str, operations: Iterable[Operation]) -> list[str]:
    by_name: dict[str, list[str]] = {}
    for (_, name, key), content in operations:
        by_name.setdefault(name, []).append(f"{key} : {content}" if content else key)
    return [f"{verb} element {table} {name} {{ {', '.join(listed)} }}" for name, listed in by_name.items()]


def _hash(*parts: str) -> str:
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=8).hexdigest()
