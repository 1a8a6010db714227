"""What netlab needs: the table of checks. It only lists what netlab uses."""

from __future__ import annotations

import functools
import os

from netlab.doctor import probes
from netlab.doctor.examination import Check
from netlab.doctor.programs import CONNTRACK, CURL, IP, IP6TABLES_RESTORE, IPTABLES_RESTORE, NFT, PYTHON, TCPDUMP
from netlab.lab.paths import home
from netlab.machine.privileges import remedy

_LEAST_FILES = 4096
_LEAST_DISK = 64 * 2**20
_NO_LAB = "no lab starts"
_ISOLATED = "/proc and /sys"
"""The check that passes last before the examination is in namespaces of its own, where anything may be made."""

# Each needs one feature of the kernel, so that the name of the check is the name of what is missing.
_NFT_RULES = {
    "nft NAT": """
        table inet try-nat {
          chain postrouting {
            type nat hook postrouting priority srcnat;
            masquerade fully-random
          }
        }
        """,
    "nft fib": """
        table inet try-fib {
          chain prerouting {
            type nat hook prerouting priority dstnat;
            fib daddr type local accept
          }
        }
        """,
    "nft maps": """
        table ip try-maps {
          map endpoints {
            typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport;
          }
          map services {
            typeof ip daddr . meta l4proto . th dport : verdict;
          }
          chain pick {
            dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints
          }
          chain prerouting {
            type nat hook prerouting priority dstnat;
            ip daddr . meta l4proto . th dport vmap @services
          }
        }
        """,
    "nft reject": """
        table inet try-reject {
          chain forward {
            type filter hook forward priority filter;
            meta l4proto tcp reject with tcp reset
          }
        }
        """,
}
_IPTABLES_RULES = """*nat
:TRY - [0:0]
-A TRY -m comment --comment try -m addrtype --dst-type LOCAL -j MARK --or-mark 0x4000
-A TRY -m statistic --mode random --probability 0.5 -m conntrack --ctstate NEW -j RETURN
-A TRY -j MASQUERADE --random-fully
COMMIT
*filter
:TRY - [0:0]
-A TRY -j REJECT
COMMIT
"""


_BOUNDS = {
    "memory": "a lab can fill the memory of this machine, and limits of containers are not enforced",
    "pids": "only the limits of users and namespaces keep a lab's processes in check",
    "cpu": "limits of containers are not enforced, and many busy pods slow the host down",
}


def checks() -> list[Check]:
    """Every check, in the order in which they can be tried."""
    return [*_host(), *_namespaces(), *_links(), *_nftables(), *_iptables(), *_tools()]


def _host() -> list[Check]:
    return [
        # mount_setattr(2), by which containers get read-only mounts, came with 5.12.
        Check("kernel", functools.partial(probes.kernel, (5, 12)), _NO_LAB, "a Linux kernel of 5.12 or newer"),
        Check(
            "open files",
            functools.partial(probes.open_files, _LEAST_FILES),
            "a lab of more than some hundred pods fails",
            f"raise the hard limit (`ulimit -Hn`) to {_LEAST_FILES} or more, in /etc/security/limits.conf",
            required=False,
        ),
        Check(
            "disk",
            functools.partial(probes.disk_space, home(), _LEAST_DISK),
            "a lab cannot keep its objects, logs and captures",
            "make room, or set NETLAB_HOME to a directory that has it",
        ),
        *(
            Check(
                f"{controller} cgroup",
                functools.partial(probes.bound, controller),
                cost,
                "run labs as root, or as a user to whom systemd gives cgroups (cgroup v2, `loginctl enable-linger`)",
                required=False,
            )
            for controller, cost in _BOUNDS.items()
        ),
    ]


def _namespaces() -> list[Check]:
    root = os.geteuid() == 0
    allow = remedy(ordinary=not root)
    cost = "root's labs need `netlab up --privileged`" if root else "only root can run labs"
    return [
        Check("user namespaces", probes.user_namespace, cost, allow),
        Check("capabilities", probes.capabilities, _NO_LAB, allow, after=() if root else ("user namespaces",)),
        Check("namespaces", probes.namespaces, _NO_LAB, allow, after=("capabilities",)),
        Check(
            _ISOLATED,
            probes.kernel_file_systems,
            _NO_LAB,
            allow,
            after=("namespaces",),
        ),
        Check(
            "overlayfs",
            probes.overlay,
            _NO_LAB,
            "a kernel with CONFIG_OVERLAY_FS; if it is a module, `sudo modprobe overlay`",
            after=("namespaces",),
        ),
    ]


def _links() -> list[Check]:
    every_pod = "pods have no network"
    costs = {"veth": every_pod, "bridge": every_pod, "vxlan": "`netlab up` only works with --network routed or bridge"}
    return [
        Check(
            kind,
            functools.partial(probes.link, kind),
            cost,
            f"a kernel with CONFIG_{kind.upper()}; if it is a module, `sudo modprobe {kind}`",
            required=cost is every_pod,
            after=(_ISOLATED,),
        )
        for kind, cost in costs.items()
    ] + [
        Check(
            "br_netfilter",
            probes.bridge_netfilter,
            "a Service does not answer a client whose pod is on the same node as the backend: "
            "the reply crosses the bridge and bypasses conntrack",
            "`sudo modprobe br_netfilter` (`make setup` does), on a kernel with CONFIG_BRIDGE_NETFILTER",
            after=(_ISOLATED,),
        )
    ]


def _nftables() -> list[Check]:
    features = [
        Check(
            name,
            functools.partial(probes.nft_accepts, rules),
            "no Services, and no traffic from pods to the outside",
            "a kernel with CONFIG_NF_TABLES_INET, NFT_NAT, NFT_MASQ, NFT_FIB_INET, NFT_NUMGEN and NFT_REJECT, "
            "and nft 1.0.6 or newer",
            after=(NFT.name, _ISOLATED),
        )
        for name, rules in _NFT_RULES.items()
    ]
    nft = Check(NFT.name, probes.nft_version, "no traffic from pods to the outside, and no Services", NFT.remedy)
    return [nft, *features]


def _iptables() -> list[Check]:
    return [
        Check(
            program.name,
            functools.partial(probes.iptables_accepts, program, _IPTABLES_RULES),
            f"no --proxy iptables for {family}",
            f"{program.remedy}, and a kernel with CONFIG_NFT_COMPAT or with iptables",
            required=False,
            after=(_ISOLATED,),
        )
        for program, family in ((IPTABLES_RESTORE, "IPv4"), (IP6TABLES_RESTORE, "IPv6"))
    ]


def _tools() -> list[Check]:
    return [
        Check(
            "Docker engine",
            probes.docker_engine,
            "no --runtime docker",
            "install docker.io and start it (`dockerd`), or set DOCKER_HOST to its socket",
            required=False,
        ),
        Check(
            "packet sockets",
            probes.packet_socket,
            "no captures, and no scenario checks that look at packets",
            "a kernel with CONFIG_PACKET",
            after=(_ISOLATED,),
        ),
        Check(
            CONNTRACK.name,
            functools.partial(probes.connections_listed, CONNTRACK),
            "UDP clients keep sending to backends that are gone",
            f"{CONNTRACK.remedy}, and a kernel with CONFIG_NF_CT_NETLINK",
            required=False,
            after=(_ISOLATED,),
        ),
        Check(
            PYTHON.name,
            functools.partial(probes.python_on_path, (3, 11)),
            "the CNI plugins fail for callers other than netlab, such as podman, containerd and cnitool",
            "put a python3 of 3.11 or newer first on the callers' PATH",
            required=False,
        ),
        *(
            Check(program.name, program.path, lost, program.remedy, required=False)
            for program, lost in (
                (TCPDUMP, "no capture filters: no `netlab capture --service`, no scenario that looks at packets"),
                (CURL, "no requests by hand: the commands in the lessons' texts ask with it"),
                (IP, "no `netlab exec node/node-1 -- ip route`"),
            )
        ),
    ]
