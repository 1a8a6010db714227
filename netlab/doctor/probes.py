"""The trials themselves: each makes the real thing, returns what it found, and raises `NetlabError` or `OSError`.

Those after `namespaces` are for the child process of an examination: they change its namespaces, or what is in them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from dataclasses import asdict
from pathlib import Path

from netlab.doctor.programs import NFT, PYTHON, Program
from netlab.errors import UnsupportedError
from netlab.lab import cgroups
from netlab.machine.cgroups import labs
from netlab.machine.privileges import missing
from netlab.machine.userns import enter_user_namespace
from netlab.net import syscalls
from netlab.net.route.vxlan import VXLAN_PORT

_SLOWEST = 10.0
"""Seconds after which a program counts as hung."""


def kernel(oldest: tuple[int, int]) -> str:
    """The kernel's release is at least `oldest`."""
    release = os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers and tuple(map(int, numbers.groups())) < oldest:
        raise UnsupportedError(f"Linux {release} is older than {oldest[0]}.{oldest[1]}")
    return f"Linux {release}"


def open_files(least: int) -> str:
    """A process may open `least` files: the hard limit, to which netlab raises its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < least:
        raise UnsupportedError(f"a process may open {hard} files")
    return "unlimited" if hard == resource.RLIM_INFINITY else str(hard)


def docker_engine() -> str:
    """A Docker engine answers on this host."""
    from netlab.machine.docker import engine

    where = engine.address()
    version = engine.connect(where).version()["Version"]
    return f"Docker {version} at {where}"


def disk_space(directory: Path, least: int) -> str:
    """`least` bytes are free where labs are kept, or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise UnsupportedError(f"{existing} is not writable for uid {os.geteuid()}")
    free = shutil.disk_usage(existing).free
    text = f"{free // 2**20} MiB free for {directory}"
    if free < least:
        raise UnsupportedError(text)
    return text


@functools.cache
def _bounds() -> tuple[dict[str, str], dict[str, str]]:
    """Make a lab's cgroups, in a child process. Where each controller is, and why one is not to be had."""
    name = f"doctor-{os.getpid()}"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = cgroups.find(name)
            planned = labs.plan(found.parents, name)
            os.write(write_end, json.dumps([[asdict(each) for each in planned], found.lacking, ""]).encode())
            labs.enter(planned, cgroups.share(), os.geteuid())
        except OSError as error:
            os.write(write_end, b"\n" + json.dumps(f"{error.filename}: {error.strerror}").encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        report, _, failure = pipe.read().partition("\n")
    os.waitpid(child, 0)
    planned, lacking, _ = json.loads(report)
    labs.remove([each["path"] for each in planned])
    places = {name: each["path"] for each in planned for name in each["controllers"]}
    if failure:
        return {}, lacking | dict.fromkeys(places, json.loads(failure))
    return places, lacking


def bound(controller: str) -> str:
    """A lab has a cgroup with the controller, and so limits of its own."""
    places, lacking = _bounds()
    if controller not in places:
        raise UnsupportedError(lacking[controller])
    return f"in {os.path.dirname(places[controller])}"  # noqa: PTH120


def user_namespace() -> str:
    """A user becomes root of a user namespace, in which labs run.

    This process moves there if it is an ordinary user's; root makes the rest of a lab from outside.
    """
    user = os.geteuid()
    if user != 0:
        enter_user_namespace()
        return f"uid {user} is root of a new one"
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(UnsupportedError):
            enter_user_namespace()
            status = 0
        os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise UnsupportedError("they are refused to root")
    return "root has one for each lab"


def capabilities() -> str:
    """Root has what it makes a lab with, which root of a container mostly has not."""
    if lacking := missing():
        raise UnsupportedError(f"root without {', '.join(f'CAP_{name}' for name in lacking)}")
    return "all that are needed"


def namespaces() -> str:
    """Namespaces of each kind that a machine of a lab has. A child continues, as pid 1 of the new pid namespace."""
    kinds = {
        "network": syscalls.CLONE_NEWNET,
        "mount": syscalls.CLONE_NEWNS,
        "uts": syscalls.CLONE_NEWUTS,
        "ipc": syscalls.CLONE_NEWIPC,
        "pid": syscalls.CLONE_NEWPID,
    }
    for name, kind in kinds.items():
        try:
            syscalls.unshare(kind)
        except OSError as error:
            raise UnsupportedError(f"{name} namespaces: {error.strerror}") from error
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    syscalls.set_parent_death_signal(signal.SIGKILL)
    return ", ".join(kinds)


def kernel_file_systems() -> str:
    """The new namespaces' own /proc and /sys; not possible under container runtimes that mask parts of /proc."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    quiet = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("sysfs", "/sys", "sysfs", quiet | syscalls.MS_RDONLY)
    syscalls.mount("proc", "/proc", "proc", quiet)
    return "/proc, /sys"


def overlay() -> str:
    """A file system of layers, as each container has one."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/proc", "tmpfs")
    for name in ("lower", "upper", "work"):
        Path("/proc", name).mkdir()
    options = "lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work,userxattr"
    syscalls.mount("overlay", "/proc", "overlay", 0, options)
    return "mounted one"


def link(kind: str) -> str:
    """A link of the kind can be made."""
    from pyroute2 import IPRoute  # a mistake in netlab's own netlink is not to be taken for the machine's
    from pyroute2.netlink.exceptions import NetlinkError

    attributes = {"vxlan_id": 1, "vxlan_port": VXLAN_PORT} if kind == "vxlan" else {}
    try:
        with IPRoute() as ip:
            ip.link("add", ifname=f"try-{kind}", kind=kind, **attributes)
    except NetlinkError as error:
        raise UnsupportedError(f"{kind}: {os.strerror(error.code)}") from error
    return "made one"


def packet_socket() -> str:
    """Packets can be captured."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        return "opened one"


def bridge_netfilter() -> str:
    """Frames that a bridge forwards pass netfilter, in network namespaces of ordinary users too."""
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not setting.exists():
        raise UnsupportedError("the module br_netfilter is not loaded")
    return "loaded"


def python_on_path(oldest: tuple[int, int]) -> str:
    """The python3 on the PATH is at least `oldest`: what a CNI plugin runs on when its caller has not chosen one."""
    found = _run(PYTHON, "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    if tuple(map(int, found.split("."))) < oldest:
        raise UnsupportedError(f"{PYTHON.path()} is Python {found}, older than {oldest[0]}.{oldest[1]}")
    return f"{PYTHON.path()}, Python {found}"


def nft_version() -> str:
    """The nft program exists and reports its version."""
    return _run(NFT, "--version").strip()


def nft_accepts(ruleset: str) -> str:
    """The kernel accepts the rules from the nft program."""
    _run(NFT, "-f", "-", text=ruleset)
    return "accepted"


def iptables_accepts(program: Program, rules: str) -> str:
    """The kernel accepts the rules from iptables-restore or ip6tables-restore."""
    _run(program, text=rules)
    return _run(program, "--version").strip()


def connections_listed(program: Program) -> str:
    """The conntrack program can read the kernel's table."""
    _run(program, "-L")
    return program.path()


def _run(program: Program, *arguments: str, text: str = "") -> str:
    """The program's output. Raises `UnsupportedError` with its message if it fails."""
    try:
        done = subprocess.run(
            [program.path(), *arguments], input=text, capture_output=True, text=True, check=False, timeout=_SLOWEST
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"{program.name} did not answer within {_SLOWEST:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[0]
        raise UnsupportedError(said if said.startswith(program.name) else f"{program.name}: {said}")
    return done.stdout
