"""One direction of a plan: the selectors and blocks in use, the classes they make, and what judged pods admit. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from netlab.net.addresses import Family, family_of
from netlab.policy.plan import ANY_CLASS, PARTS, Judged, Key, Part, Place, Plan, Profiles, Range
from netlab.policy.ports import EVERYTHING, Ports, common, spans, union, without
from netlab.policy.rules import (
    TIERS,
    Action,
    Block,
    Direction,
    Peers,
    PodPeers,
    PodPort,
    Policy,
    PortName,
    Rule,
    digest,
)
from netlab.policy.selection import PodSelection

_CLASS_BIT = 0x80000000
"""Set in every class's number and in no profile's: what has no profile is told from one."""


class Group:
    """Peers that a rule in use names: pods by selectors, or a block."""

    __slots__ = ("classes", "code", "peers", "rulings")

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.code = digest(peers)
        self.classes: dict[int, None] = {}
        """Those whose members are all among these peers."""
        self.rulings: dict[Ruling, None] = {}
        """Those that name it."""


Sign: TypeAlias = Group | PodPort
"""What tells a class from another: a group that its members are in, or a name that they give to a port."""
Signature: TypeAlias = frozenset[Sign]
_NO_SIGN: Signature = frozenset()
_Basis: TypeAlias = tuple[tuple[Policy, ...], tuple[PodPort, ...]]
"""Policies, and the ports to which the names in them lead."""


class _Class:
    """The peers that have the same signature."""

    __slots__ = ("members", "rulings", "signature")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.members: dict[str | Range, None] = {}
        self.rulings: dict[Ruling, None] = {}
        """Those that have a profile for it."""


class Ruling:
    """What the pods that the same policies select admit."""

    __slots__ = ("_isolates", "_of_tier", "_only_isolates", "addresses", "groups", "key", "names", "profiles")

    def __init__(self, key: _Basis, rules: list[tuple[Rule, tuple[Group, ...] | None]]) -> None:
        self.key = key
        tiers = {policy.key: policy.tier for policy in key[0]}
        self._of_tier = {tier: [each for each in rules if tiers[each[0].policy] == tier] for tier in TIERS}
        self._isolates = "NetworkPolicy" in tiers.values()
        self._only_isolates = set(tiers.values()) == {"NetworkPolicy"}
        self.groups = {group: None for _, groups in rules for group in groups or ()}
        self.names = frozenset(name for rule, _ in rules for name in rule.names)
        self.addresses: dict[str, None] = {}
        self.profiles: dict[int, int] = {}
        """By class; a class that is not in it has that of ANY_CLASS, or none."""

    def admits(self, signature: Signature) -> Ports:
        """The ports at which peers with that signature are admitted."""
        matching = {
            tier: [
                (rule.action, _ports(rule, signature))
                for rule, groups in self._of_tier[tier]
                if _concerns(groups, signature)
            ]
            for tier in TIERS
        }
        if self._only_isolates:
            return union(ports for _, ports in matching["NetworkPolicy"])
        admitted, left = _decided(matching["Admin"], EVERYTHING)
        if self._isolates:
            return union([*admitted, common(left, union(ports for _, ports in matching["NetworkPolicy"]))])
        more, left = _decided(matching["Baseline"], left)
        return union([*admitted, *more, left])


def _concerns(groups: tuple[Group, ...] | None, signature: Signature) -> bool:
    return groups is None or not signature.isdisjoint(groups)


def _ports(rule: Rule, signature: Signature) -> Ports:
    if not rule.names:
        return rule.ports
    return union([rule.ports, *(_numbers(name.name, name.protocol, signature) for name in rule.names)])


def _decided(rules: Iterable[tuple[Action, Ports]], judged: Ports) -> tuple[list[Ports], Ports]:
    """What a tier of the cluster admits of what it judges, and what it leaves to the next: the first rule decides."""
    admitted: list[Ports] = []
    passed: list[Ports] = []
    for action, ports in rules:
        found = common(judged, ports)
        judged = without(judged, found)
        if action == "Accept":
            admitted.append(found)
        elif action == "Pass":
            passed.append(found)
    return admitted, union([judged, *passed])


def _numbers(name: str, protocol: str, signature: Signature) -> Ports:
    ports = (sign for sign in signature if isinstance(sign, PodPort))
    matching = (port.number for port in ports if (port.name, port.protocol) == (name, protocol))
    return union(spans(protocol, number, number) for number in matching)


class Side:
    """Ingress or egress. Changes are collected until `settle`, which brings the plan up to them."""

    def __init__(
        self, direction: Direction, namespaces: Mapping[str, Mapping[str, str]], plan: Plan, profiles: ProfileBook
    ) -> None:
        self.selection: PodSelection[Group] = PodSelection(namespaces)
        self.stale: dict[str, None] = {}
        """Pods whose signature may have changed, by key."""
        self._direction = direction
        self._tables: dict[Part, dict[Key, int]] = {part: plan[Place(part, direction)] for part in PARTS}
        self.names: frozenset[PortName] = frozenset()
        """The names of peers' ports that matter."""
        self._before: dict[Part, dict[Key, int | None]] = {part: {} for part in PARTS}
        self._profiles = profiles
        self._groups: dict[Peers, Group] = {}
        self._classes: dict[int, _Class] = {}
        self._class_of: dict[Signature, int] = {}
        self._rulings: dict[_Basis, Ruling] = {}
        self._ruling_of: dict[str, Ruling] = {}
        self._signs_of: dict[str, tuple[Signature, tuple[str, ...]]] = {}
        """Each pod's own signature, and its addresses; of pods that have one."""
        self._pods_of: dict[Sign, dict[str, None]] = {}
        self._names: Counter[PortName] = Counter()
        self._new: dict[Ruling, None] = {}
        self._left: dict[Ruling, None] = {}
        """Those that an address no longer judges by."""
        self._emptied: dict[int, None] = {}
        """Classes that lost a member."""
        self._buried: set[int] = set()
        self._born: dict[int, None] = {}
        self._blocks_changed = False
        self._ranges: dict[Family, _Ranges] = {"IPv4": _Ranges((), ()), "IPv6": _Ranges((), ())}

    # --- What pods admit ---------------------------------------------------------------------------------------

    def judge(self, address: str, policies: tuple[Policy, ...], ports: tuple[PodPort, ...]) -> None:
        """An address judges its peers by these policies, in which its pod's ports have these names."""
        names = {name for policy in policies for rule in policy.rules[self._direction] for name in rule.names}
        key = policies, tuple(port for port in ports if (port.name, port.protocol) in names)
        before = self._ruling_of.get(address)
        if before is not None and before.key == key:
            return
        ruling = self._rulings.get(key)
        if ruling is None:
            ruling = self._rulings[key] = self._ruling(key)
        self._leave(address)
        self._ruling_of[address] = ruling
        ruling.addresses[address] = None
        self._put("pods", address, 0)
        for peers, profile in ruling.profiles.items():
            self._put("profiles", Judged(peers, address), profile)

    def pass_over(self, address: str) -> None:
        """An address no longer judges anybody."""
        if address in self._ruling_of:
            self._leave(address)
            self._put("pods", address, None)

    def _leave(self, address: str) -> None:
        ruling = self._ruling_of.pop(address, None)
        if ruling is None:
            return
        del ruling.addresses[address]
        self._left[ruling] = None
        for peers in ruling.profiles:
            self._put("profiles", Judged(peers, address), None)

    def _ruling(self, key: _Basis) -> Ruling:
        policies, ports = key
        rules = []
        for rule in (rule for policy in policies for rule in policy.rules[self._direction]):
            groups = None if rule.peers is None else tuple(map(self._group, rule.peers))
            rules.append((_resolved(rule, ports) if self._direction == "Ingress" else rule, groups))
        ruling = Ruling(key, rules)
        for group in ruling.groups:
            group.rulings[ruling] = None
        self._names.update(ruling.names)
        self._new[ruling] = None
        return ruling

    def _group(self, peers: Peers) -> Group:
        group = self._groups.get(peers)
        if group is None:
            group = self._groups[peers] = Group(peers)
            if isinstance(peers, Block):
                self._blocks_changed = True
            else:
                self.selection.add(group, peers)
        return group

    def unused(self) -> None:
        """Forget the rulings that nobody judges by any more, and the groups that nobody names."""
        for ruling in self._left:
            if ruling.addresses:
                continue
            del self._rulings[ruling.key]
            self._new.pop(ruling, None)
            self._names.subtract(ruling.names)
            for number, profile in ruling.profiles.items():
                self._profiles.release(profile)
                if number != ANY_CLASS:
                    del self._classes[number].rulings[ruling]
            ruling.profiles.clear()
            for group in ruling.groups:
                del group.rulings[ruling]
                if not group.rulings:
                    self._forget(group)
        self._left.clear()

    def _forget(self, group: Group) -> None:
        del self._groups[group.peers]
        if isinstance(group.peers, Block):
            self._blocks_changed = True
        else:
            self.selection.discard(group)
            self.stale.update(self._pods_of.get(group, {}))

    @property
    def new_groups(self) -> list[Group]:
        """Groups of pods that came into use since the last `settle`."""
        found = {group: None for ruling in self._new for group in ruling.groups if not group.classes}
        return [group for group in found if isinstance(group.peers, PodPeers)]

    def names_changed(self) -> bool:
        """Find out which names of peers' ports matter; whether there are others than before."""
        before = self.names
        self.names = frozenset(name for name, uses in self._names.items() if uses)
        return before != self.names

    def take(self) -> dict[Place, dict[Key, int | None]]:
        """What was in the plan when this was last called, of what has changed since."""
        before, self._before = self._before, {part: {} for part in PARTS}
        return {Place(part, self._direction): table for part, table in before.items()}

    def take_unused(self) -> set[int]:
        """The classes that have lost their last members since this was last called."""
        buried, self._buried = self._buried, set()
        return buried - self._classes.keys()

    # --- Whose class is which ----------------------------------------------------------------------------------

    def sign(self, pod: str, signs: Signature, addresses: tuple[str, ...]) -> None:
        """What is known of a pod as a peer; without signs it is like any address."""
        old, before = self._signs_of.pop(pod, (_NO_SIGN, ()))
        for sign in old - signs:
            pods = self._pods_of[sign]
            del pods[pod]
            if not pods:
                del self._pods_of[sign]
        for sign in signs - old:
            self._pods_of.setdefault(sign, {})[pod] = None
        for address in before:
            if not signs or address not in addresses:
                self._member(address, _NO_SIGN)
        if signs:
            self._signs_of[pod] = signs, addresses
            for address in addresses:
                self._member(address, signs | self._ranges[family_of(address)].signature(address))

    def settle(self) -> None:
        """Bring the plan up to what has changed."""
        if self._blocks_changed:
            self._blocks_changed = False
            self._divide()
        for ruling in self._new:
            ruling.profiles[ANY_CLASS] = self._profiles.take(ruling.admits(_NO_SIGN))
            for address in ruling.addresses:
                self._put("profiles", Judged(ANY_CLASS, address), ruling.profiles[ANY_CLASS])
            signs: list[Iterable[int]] = [group.classes for group in ruling.groups]
            if ruling.names:
                signs.append([number for number, each in self._classes.items() if _has_names(each.signature)])
            for number in {number: None for classes in signs for number in classes}:
                self._relate(ruling, number)
        for number in self._born:
            signature = self._classes[number].signature
            rulings = {ruling: None for sign in signature if isinstance(sign, Group) for ruling in sign.rulings}
            if _has_names(signature):
                rulings |= {ruling: None for ruling in self._rulings.values() if ruling.names}
            for ruling in rulings:
                if ruling not in self._new:
                    self._relate(ruling, number)
        self._new.clear()
        self._born.clear()
        for number in self._emptied:
            if not self._classes[number].members:
                self._bury(number)
        self._emptied.clear()

    def _relate(self, ruling: Ruling, number: int) -> None:
        """Give a class its profile in a ruling, if that is not everybody's."""
        profile = self._profiles.take(ruling.admits(self._classes[number].signature))
        if profile == ruling.profiles[ANY_CLASS]:
            self._profiles.release(profile)
            return
        ruling.profiles[number] = profile
        self._classes[number].rulings[ruling] = None
        for address in ruling.addresses:
            self._put("profiles", Judged(number, address), profile)

    def _member(self, key: str | Range, signature: Signature) -> None:
        part: Part = "peers" if isinstance(key, str) else "blocks"
        before = self._tables[part].get(key)
        number = self._number(signature) if signature else None
        if before == number:
            return
        if before is not None:
            del self._classes[before].members[key]
            self._emptied[before] = None
        if number is not None:
            self._classes[number].members[key] = None
        self._put(part, key, number)

    def _number(self, signature: Signature) -> int:
        number = self._class_of.get(signature)
        if number is None:
            codes = sorted(sign.code if isinstance(sign, Group) else digest(sign) for sign in signature)
            number = int.from_bytes(hashlib.blake2s(b"".join(codes), digest_size=4).digest(), "big") | _CLASS_BIT
            while number in self._classes:  # some other class's
                number = (number + 1) | _CLASS_BIT
                number &= 0xFFFFFFFF
            self._class_of[signature] = number
            self._classes[number] = _Class(signature)
            self._born[number] = None
            for sign in signature:
                if isinstance(sign, Group):
                    sign.classes[number] = None
        return number

    def _bury(self, number: int) -> None:
        gone = self._classes.pop(number)
        self._buried.add(number)
        del self._class_of[gone.signature]
        for sign in gone.signature:
            if isinstance(sign, Group):
                del sign.classes[number]
        for ruling in gone.rulings:
            self._profiles.release(ruling.profiles.pop(number))
            for address in ruling.addresses:
                self._put("profiles", Judged(number, address), None)

    def _divide(self) -> None:
        """Divide the addresses anew, by the blocks in use."""
        before = [key for key in self._tables["blocks"] if isinstance(key, Range)]
        blocks = [group for group in self._groups.values() if isinstance(group.peers, Block)]
        self._ranges = {"IPv4": _ranges(blocks, 4), "IPv6": _ranges(blocks, 6)}
        fresh = dict(item for ranges in self._ranges.values() for item in ranges.listed())
        for key in before:
            if key not in fresh:
                self._member(key, _NO_SIGN)
        for key, signature in fresh.items():
            self._member(key, signature)
        for pod, (signs, addresses) in list(self._signs_of.items()):
            self.sign(pod, signs, addresses)

    def _put(self, part: Part, key: Key, value: int | None) -> None:
        table, before = self._tables[part], self._before[part]
        if key not in before:
            before[key] = table.get(key)
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


class _Ranges:
    """The addresses of a family, divided by blocks: where each range begins, and the blocks that it is in."""

    def __init__(self, starts: tuple[int, ...], signatures: tuple[Signature, ...], version: int = 4) -> None:
        self._starts = starts
        self._signatures = signatures
        self._of = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
        self._end = 2 ** (32 if version == 4 else 128)

    def signature(self, address: str) -> Signature:
        """The blocks that an address is in."""
        if not self._starts:
            return _NO_SIGN
        place = bisect_right(self._starts, int(ipaddress.ip_address(address)))
        return self._signatures[place - 1] if place else _NO_SIGN

    def listed(self) -> Iterable[tuple[Range, Signature]]:
        """The ranges that are in a block."""
        bounds = itertools.pairwise((*self._starts, self._end))
        for (first, end), signature in zip(bounds, self._signatures, strict=True):
            if signature:
                yield Range(str(self._of(first)), str(self._of(end - 1))), signature


def _ranges(blocks: list[Group], version: int) -> _Ranges:
    of_family = [
        (group, group.peers)
        for group in blocks
        if isinstance(group.peers, Block) and group.peers.network.version == version
    ]
    steps: dict[int, list[tuple[Group, int]]] = {}
    for group, block in of_family:
        for network, step in ((block.network, 1), *((each, -1) for each in block.excepted)):
            steps.setdefault(int(network.network_address), []).append((group, step))
            steps.setdefault(int(network.broadcast_address) + 1, []).append((group, -step))
    depth: dict[Group, int] = {}
    starts: list[int] = []
    signatures: list[Signature] = []
    for start in sorted(steps):
        for group, step in steps[start]:
            depth[group] = depth.get(group, 0) + step
        signature = frozenset(group for group, found in depth.items() if found > 0)
        if start < 2 ** (32 if version == 4 else 128) and (not signatures or signatures[-1] != signature):
            starts.append(start)
            signatures.append(signature)
    return _Ranges(tuple(starts), tuple(signatures), version)


def _resolved(rule: Rule, ports: Iterable[PodPort]) -> Rule:
    """A rule of ingress with the numbers that the pod itself gives to its names."""
    found = [
        spans(each.protocol, each.number, each.number) for each in ports if (each.name, each.protocol) in rule.names
    ]
    return rule._replace(ports=union([rule.ports, *found]), names=())


def _has_names(signature: Signature) -> bool:
    return any(isinstance(sign, PodPort) for sign in signature)


class ProfileBook:
    """The profiles in use, of both directions."""

    def __init__(self) -> None:
        self.profiles: Profiles = {}
        self._before: dict[int, Ports | None] = {}
        self._uses: dict[int, int] = {}
        self._numbers: dict[Ports, int] = {}

    def take(self, ports: Ports) -> int:
        """The number of the profile that admits these ports, which has one more use."""
        number = self._numbers.get(ports)
        if number is None:
            code = hashlib.blake2s(repr(ports).encode(), digest_size=4).digest()
            number = int.from_bytes(code, "big") & ~_CLASS_BIT or 1
            while number in self.profiles:
                number = number + 1 & ~_CLASS_BIT or 1
            self._before.setdefault(number, None)
            self._numbers[ports], self.profiles[number], self._uses[number] = number, ports, 0
        self._uses[number] += 1
        return number

    def take_before(self) -> dict[int, Ports | None]:
        """What profiles were when this was last called, of those that have come or gone since."""
        before, self._before = self._before, {}
        return before

    def release(self, number: int) -> None:
        """A profile has one use less."""
        self._uses[number] -= 1
        if not self._uses[number]:
            ports = self.profiles.pop(number)
            self._before.setdefault(number, ports)
            del self._numbers[ports], self._uses[number]
