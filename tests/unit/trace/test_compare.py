"""At which hop an observed way is not the predicted one."""

from __future__ import annotations

import msgspec
import pytest

from netlab.trace.compare import differences, nearest
from netlab.trace.model import Hop, Path, Verdict

_POD = Hop("n", "default/a", "eth0", "pod", "out", "10.0.0.1", 1000, "10.96.0.1", 80, "tcp", 64)
_VETH = msgspec.structs.replace(_POD, owner="n", interface="veth0", kind="veth", direction="in")
_TUNNEL = msgspec.structs.replace(
    _VETH, interface="eth0", direction="out", dst="10.0.1.1", dport=8080, ttl=63, encapsulation="VXLAN 1 a > b"
)
_ANSWER = msgspec.structs.replace(_POD, direction="in", src="10.96.0.1", sport=80, dst="10.0.0.1", dport=1000)
_DELIVERED = Verdict("delivered", "n", "it came")
_PATH = Path([_POD, _VETH, _TUNNEL], [_ANSWER], _DELIVERED)


def _with(path: Path, number: int, **changes: object) -> Path:
    hops = list(path.hops)
    hops[number] = msgspec.structs.replace(hops[number], **changes)
    return msgspec.structs.replace(path, hops=hops)


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (_PATH, []),
        (_with(_PATH, 1, nanoseconds=5, changed=["TTL 64 -> 63"], by=["somebody"]), []),
        (_with(_PATH, 1, interface="veth1"), ["hop 2: predicted n veth0 in, observed n veth1 in"]),
        (
            _with(_PATH, 2, dst="10.0.1.2"),
            [
                "hop 3: at n eth0 out: predicted tcp 10.0.0.1:1000 > 10.0.1.1:8080, "
                "observed tcp 10.0.0.1:1000 > 10.0.1.2:8080"
            ],
        ),
        (
            _with(_PATH, 2, dst="10.0.1.2", by=["rule of ip mine c: dnat to x", "route y"]),
            [
                "hop 3: at n eth0 out: predicted tcp 10.0.0.1:1000 > 10.0.1.1:8080, "
                "observed tcp 10.0.0.1:1000 > 10.0.1.2:8080, by rule of ip mine c: dnat to x"
            ],
        ),
        (_with(_PATH, 2, encapsulation=""), ["hop 3: at n eth0 out: predicted VXLAN 1 a > b, observed no tunnel"]),
        (_with(_PATH, 2, ttl=62), ["hop 3: at n eth0 out: predicted TTL 63, observed 62"]),
        (
            msgspec.structs.replace(_PATH, hops=[_POD, _VETH]),
            ["hop 3: predicted n eth0 out, where nothing was observed"],
        ),
        (
            msgspec.structs.replace(_PATH, hops=[_POD, _VETH, _TUNNEL, _VETH], reply=[]),
            [
                "hop 4: observed n veth0 in, where nothing was predicted",
                "hop of the reply 1: predicted default/a eth0 in, where nothing was observed",
            ],
        ),
        (
            msgspec.structs.replace(_PATH, verdict=Verdict("dropped", "n", "lost")),
            ["it was predicted to be delivered (n: it came), and was dropped (n: lost)"],
        ),
    ],
)
def test_the_first_difference_of_each_way_is_told(observed: Path, said: list[str]) -> None:
    assert list(differences(_PATH, observed)) == said


def test_a_port_that_the_kernel_chooses_is_right_whatever_it_is() -> None:
    predicted = _with(_PATH, 2, src="192.0.2.1", sport=0)
    assert not list(differences(predicted, _with(_PATH, 2, src="192.0.2.1", sport=61234)))
    assert list(differences(predicted, _with(_PATH, 2, src="192.0.2.2", sport=61234)))


def test_what_leaves_by_loopback_is_seen_once() -> None:
    out = msgspec.structs.replace(_POD, interface="lo", kind="loopback")
    back = msgspec.structs.replace(out, direction="in")
    assert not list(differences(Path([out, back], [], _DELIVERED), Path([back], [], _DELIVERED)))


def test_where_a_packet_was_delivered_is_told_by_its_hops() -> None:
    elsewhere = msgspec.structs.replace(_PATH, verdict=Verdict("delivered", "m", "it came"))
    assert not list(differences(_PATH, elsewhere))


def test_the_path_that_differs_least_and_latest_is_the_nearest() -> None:
    other = _with(_PATH, 2, dst="10.0.1.2")
    early = _with(_PATH, 0, ttl=1)
    observed = _with(_PATH, 2, dst="10.0.1.3")
    assert nearest([other, _PATH], _PATH) is _PATH
    assert nearest([early, other], observed) is other
    assert nearest([], _PATH) is None
