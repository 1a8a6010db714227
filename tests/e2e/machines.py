"""The machines of a lab of two nodes, as they are now: whatever a lesson breaks is whole again after it."""

from tests.e2e.conftest import Netlab

LOOK = """
ls /sys/class/net
ip -4 route; ip -6 route
bridge fdb show | grep dst
sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.eth0.rp_filter
nft list tables
ps -eo comm,state | grep kube-proxy | tr SR ww
"""
"""A kube-proxy that waits or works (S, R) is well; one that was stopped (T) is not."""


def configuration(lab: Netlab) -> str:
    return (lab.home / "default/nodes/node-1/net.d/10-netlab.conflist").read_text()


def state(lab: Netlab) -> list[str]:
    """What the lessons break, as it is now."""
    told = [
        lab.run("exec", place, "--", "sh", "-c", LOOK).stdout for place in ("node/node-1", "node/node-2", "outside")
    ]
    # A bridge without pods is down a moment after the last one is gone.
    return [configuration(lab), *(text.replace(" linkdown", "") for text in told)]
