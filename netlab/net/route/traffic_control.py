"""Traffic control: what shapes a link's packets.

Constants are the kernel's
(include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h).

A `Shape` is an HTB qdisc with a single class. A packet that no filter sends to the class, or past it, follows the
qdisc's default; a nonexistent class id (1:0) means HTB's direct queue, which has no limit (htb_classify() in
net/sched/sch_htb.c). TBF would do if there were no subnets, but drops every packet larger than its burst.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop
from _struct import Struct
from sys import byteorder

from netlab.net import netlink as nl
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Subnet = tuple[bytes, int]  # the address in network byte order, and the prefix's length

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_RTM_NEWTCLASS, _RTM_GETTCLASS = 40, 42
_RTM_NEWTFILTER, _RTM_GETTFILTER = 44, 46

_TC_H_ROOT, _TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_INGRESS = 0xFFFF0000  # the handle ffff: that tc(8) gives it
_ROOT = 0x00010000  # 1:
_LIMITED, _UNLIMITED = _ROOT | 0x30, _ROOT
_LEAF = 0x00300000  # 30:

_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_HTB_PARMS, _TCA_HTB_INIT, _TCA_HTB_RATE64, _TCA_HTB_CEIL64 = 1, 2, 6, 7
_HTB_VERSION, _RATE_TO_QUANTUM, _QUANTUM = 3, 10, 20_000
_TC_LINKLAYER_ETHERNET = 1  # with which the kernel needs no table of rates (Linux 3.8)
_TCA_U32_CLASSID, _TCA_U32_SEL, _TCA_U32_ACT, _TC_U32_TERMINAL = 1, 5, 7, 1
_TCA_ACT_KIND, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS = 1, 2, 2
_TC_ACT_STOLEN, _TCA_EGRESS_REDIR = 4, 1
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
# Filters with the same preference have the same protocol.
_PREFERENCES = {_ETH_P_ALL: 1, _ETH_P_IPV6: 15, _ETH_P_IP: 16}

_TCMSG = Struct("=BxxxiIII")  # family, interface, handle, parent, info
_U32, _U64 = Struct("=I"), Struct("=Q")
_HTB_GLOBAL = Struct("=IIIII")  # tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
_HTB_CLASS = Struct("=BBHhHIBBHhHIIIIII")  # tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio
_SELECTOR = Struct("=BBBxHHhhI")  # tc_u32_sel: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
_KEY_OFFSET = Struct("=ii")  # the end of tc_u32_key: off, offmask; before it are mask and value, in network byte order
_ANY = bytes(16)
"""The key that matches everything."""
_MIRRED = Struct("=IIiiiiI")  # tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex

_TICK_NS = 64
_U32_MAX = 0xFFFFFFFF
_QUEUE_SECONDS = 1 / 40
_QUEUE_LEAST = 2 * 65536
"""Bytes: a GSO packet has up to 64 KiB, and a queue that never has room for one would let nothing pass."""


class Shape:
    """A limit on what a link sends: `rate` in bytes per second and `burst` in bytes.

    With `subnets`, it applies only to packets to or from them (`only`), or to all others. `source` says which address
    is meant: the sender's or the receiver's.
    """

    __slots__ = ("burst", "only", "rate", "source", "subnets")

    def __init__(
        self, rate: int, burst: int, subnets: Iterable[Subnet] = (), *, only: bool = False, source: bool = False
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.subnets = tuple(subnets)
        self.only = only
        self.source = source

    @property
    def ticks(self) -> int:
        """The burst as the kernel stores it: its duration at the rate, in units of 64 ns, at most 274 s."""
        return min(self.burst * 1_000_000_000 // (self.rate * _TICK_NS), _U32_MAX)

    @property
    def default_class(self) -> int:
        """The minor number of the class of packets that no filter matches."""
        return (_UNLIMITED if self.only else _LIMITED) & 0xFFFF

    def filters(self) -> Iterator[tuple[int, int, bytes]]:
        """The protocol, the class and the packed keys of each filter."""
        for subnet in self.subnets:
            protocol = _ETH_P_IP if len(subnet[0]) == 4 else _ETH_P_IPV6
            yield protocol, _LIMITED if self.only else _UNLIMITED, keys(subnet, source=self.source)


def keys(subnet: Subnet, *, source: bool) -> bytes:
    """The u32 keys that match an address of the subnet in an IP header: one of 32 bits, or up to four."""
    address, length = subnet
    width = len(address)
    number = ((1 << length) - 1) << width * 8 - length
    mask = number.to_bytes(width, "big")
    network = (int.from_bytes(address, "big") & number).to_bytes(width, "big")
    offset = (12 if width == 4 else 8) + (0 if source else width)
    packed = b"".join(
        mask[at : at + 4] + network[at : at + 4] + _KEY_OFFSET.pack(offset + at, 0)
        for at in range(0, width, 4)
        if any(mask[at : at + 4])
    )
    return packed or _ANY


def shaping(link: str, index: int, shape: Shape) -> list[nl.Message]:
    """Shape what a link sends; the first message fails with EEXIST if there is already a qdisc."""
    parameters = _HTB_GLOBAL.pack(_HTB_VERSION, _RATE_TO_QUANTUM, shape.default_class, 0, 0)
    queue = _QUEUE_LEAST + int(shape.rate * _QUEUE_SECONDS)
    messages = [
        _qdisc(link, index, "htb", _ROOT, _TC_H_ROOT, nl.attribute(_TCA_HTB_INIT, parameters)),
        _message(
            f"htb class of {link}",
            _RTM_NEWTCLASS,
            _TCMSG.pack(0, index, _LIMITED, _ROOT, 0),
            "htb",
            _class_options(shape),
        ),
        # The default would be a pfifo as long as the link's queue. At 1 Mbit/s, 1000 packets wait for 12 s.
        _qdisc(link, index, "bfifo", _LEAF, _LIMITED, _U32.pack(min(queue, _U32_MAX))),
    ]
    for protocol, target, packed in shape.filters():
        options = nl.attribute(_TCA_U32_CLASSID, _U32.pack(target)) + _selector(packed)
        messages.append(_filter(link, index, _ROOT, protocol, options))
    return messages


def shaping_removal(link: str, index: int) -> nl.Message:
    """Remove the shape from a link, with its class and filters."""
    return nl.Message(f"qdisc htb of {link}", _RTM_DELQDISC, 0, _TCMSG.pack(0, index, _ROOT, _TC_H_ROOT, 0))


def redirection(link: str, index: int, target: int) -> list[nl.Message]:
    """Make another link send what a link receives; the first message fails with EEXIST if that is already set."""
    parameters = _MIRRED.pack(0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, target)
    action = nl.attribute(_TCA_ACT_KIND, b"mirred\0") + nl.nested(
        _TCA_ACT_OPTIONS, nl.attribute(_TCA_MIRRED_PARMS, parameters)
    )
    actions = nl.nested(_TCA_U32_ACT, nl.nested(1, action))
    return [
        _qdisc(link, index, "ingress", _INGRESS, _TC_H_INGRESS, b""),
        _filter(link, index, _INGRESS, _ETH_P_ALL, _selector(_ANY) + actions),
    ]


def redirection_removal(link: str, index: int) -> nl.Message:
    """Make a link receive again what arrives at it."""
    return nl.Message(f"qdisc ingress of {link}", _RTM_DELQDISC, 0, _TCMSG.pack(0, index, _INGRESS, _TC_H_INGRESS, 0))


class TrafficControl(Rtnetlink):
    """A socket that also reads back a link's shape. Every method raises `NetlinkError`."""

    def differences(self, link: str, index: int, shape: Shape) -> Iterator[str]:
        """What is missing or changed in a link's shape, in words."""
        qdiscs = dict(self._dump(_RTM_GETQDISC, index, _TC_H_ROOT))
        options = qdiscs.get(("htb", _ROOT))
        if options is None:
            yield f"link {link}: its qdisc htb 1: is missing"
            return
        default = _HTB_GLOBAL.unpack(options[_TCA_HTB_INIT])[2]
        if default != shape.default_class:
            yield f"qdisc htb of {link}: default class is 1:{default:x}, not 1:{shape.default_class:x}"
        options = dict(self._dump(_RTM_GETTCLASS, index, _ROOT)).get(("htb", _LIMITED))
        if options is None:
            yield f"link {link}: its htb class 1:30 is missing"
            return
        fields = _HTB_CLASS.unpack(options[_TCA_HTB_PARMS])
        rate, ticks = fields[5], fields[12]
        if _TCA_HTB_RATE64 in options:
            rate = _U64.unpack(options[_TCA_HTB_RATE64])[0]
        if rate != shape.rate:
            yield f"htb class of {link}: rate is {rate * 8} bit/s, not {shape.rate * 8}"
        elif ticks != shape.ticks:
            size = ticks * _TICK_NS * rate // 1_000_000_000
            yield f"htb class of {link}: burst is {size * 8} bits, not {shape.burst * 8}"
        present = {
            (options[_TCA_U32_CLASSID], options[_TCA_U32_SEL][_SELECTOR.size :])
            for _, options in self._dump(_RTM_GETTFILTER, index, _ROOT)
            if _TCA_U32_SEL in options
        }
        wanted = list(shape.filters())
        for (_, target, packed), (address, length) in zip(wanted, shape.subnets, strict=True):
            if (_U32.pack(target), packed) not in present:
                name = inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
                yield f"link {link}: its filter for {name}/{length} is missing"
        if len(present) > len(wanted):
            yield f"link {link}: has {len(present)} filters, not {len(wanted)}"

    def redirects(self, index: int, target: int) -> bool:
        """Whether what a link receives is redirected to another."""
        return any(
            _redirected_to(options.get(_TCA_U32_ACT, b"")) == target
            for _, options in self._dump(_RTM_GETTFILTER, index, _INGRESS)
        )

    def _dump(self, kind: int, index: int, parent: int) -> Iterator[tuple[tuple[str, int], dict[int, bytes]]]:
        """The kind, handle and options of everything on a link."""
        request = nl.Message("traffic control", kind, nl.NLM_F_DUMP, _TCMSG.pack(0, index, 0, parent, 0))
        for payload in self.ask(request):
            _, owner, handle, _, _ = _TCMSG.unpack_from(payload)
            if owner != index:  # a dump of qdiscs covers all links
                continue
            found = dict(nl.attributes(payload, _TCMSG.size))
            kind_of = nl.text(found[_TCA_KIND])
            # Filters' options hold attributes, as HTB's do; those of bfifo and others are skipped.
            options = found.get(_TCA_OPTIONS, b"") if kind_of in {"htb", "u32"} else b""
            yield (kind_of, handle), dict(nl.attributes(options))


def _redirected_to(actions: bytes) -> int:
    """The link to which a filter's first action redirects; 0 if it does something else."""
    action = dict(nl.attributes(dict(nl.attributes(actions)).get(1, b"")))
    parameters = dict(nl.attributes(action.get(_TCA_ACT_OPTIONS, b""))).get(_TCA_MIRRED_PARMS)
    if action.get(_TCA_ACT_KIND) != b"mirred\0" or parameters is None:
        return 0
    *_, what, index = _MIRRED.unpack(parameters)
    return index if what == _TCA_EGRESS_REDIR else 0


def _class_options(shape: Shape) -> bytes:
    rate = min(shape.rate, _U32_MAX)
    specification = (0, _TC_LINKLAYER_ETHERNET, 0, 0, 0, rate)
    options = nl.attribute(
        _TCA_HTB_PARMS, _HTB_CLASS.pack(*specification, *specification, shape.ticks, shape.ticks, _QUANTUM, 0, 0)
    )
    if rate < shape.rate:
        options += nl.attribute(_TCA_HTB_RATE64, _U64.pack(shape.rate))
        options += nl.attribute(_TCA_HTB_CEIL64, _U64.pack(shape.rate))
    return options


def _qdisc(link: str, index: int, kind: str, handle: int, parent: int, options: bytes) -> nl.Message:
    return _message(f"qdisc {kind} of {link}", _RTM_NEWQDISC, _TCMSG.pack(0, index, handle, parent, 0), kind, options)


def _filter(link: str, index: int, parent: int, protocol: int, options: bytes) -> nl.Message:
    info = _PREFERENCES[protocol] << 16 | int.from_bytes(protocol.to_bytes(2, "big"), byteorder)
    return _message(f"filter of {link}", _RTM_NEWTFILTER, _TCMSG.pack(0, index, 0, parent, info), "u32", options)


def _selector(packed: bytes) -> bytes:
    return nl.attribute(_TCA_U32_SEL, _SELECTOR.pack(_TC_U32_TERMINAL, 0, len(packed) // 16, 0, 0, 0, 0, 0) + packed)


def _message(subject: str, kind: int, header: bytes, name: str, options: bytes) -> nl.Message:
    payload = header + nl.string(_TCA_KIND, name) + nl.attribute(_TCA_OPTIONS, options)
    return nl.Message(subject, kind, nl.NLM_F_CREATE | nl.NLM_F_EXCL, payload)
