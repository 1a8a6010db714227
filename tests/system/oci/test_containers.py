"""Containers of real images, made of busybox-static: the same table as root and as an ordinary user."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netlab.errors import ConflictError
from netlab.machine.protocol import Mount
from netlab.machine.replies import MachineError
from netlab.oci.store import Store
from tests import images
from tests.images import docker_archive, layer, member, oci_layout
from tests.system.machine.lab import Lab, wait_until

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not images.BUSYBOX.exists(), reason="the host has no busybox-static")

TOP = layer(
    [
        member("home/.wh.web", b""),
        member("srv"),
        member("srv/own", b"x", uid=1000, gid=1001, mode=0o640),
        member("etc/link", "/proc/1/root/etc/passwd"),
        member("opaque/.wh..wh..opq", b""),
        member("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ]
)
BASE = layer([member("opaque/lower", b"x"), member("closed", mode=0o700), member("closed/file", b"x")])
IMAGES: dict[str, dict[str, Any]] = {
    "root": {"Cmd": ["sh", "-c", "echo default"], "Env": ["A=image", "B=image"]},
    "user": {"User": "web", "Cmd": ["id"], "StopSignal": "SIGUSR1"},
    "numbers": {"User": "7:8"},
    "stranger": {"User": "stranger", "Cmd": ["id"]},
    "entry": {"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"], "WorkingDir": "/made/here"},
}


@dataclass(frozen=True)
class Running:
    """A lab that sees a store of its own."""

    lab: Lab
    store: Store


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="netlab-") as folder, pytest.MonkeyPatch.context() as patched:
        store = Store(Path(folder, "store"))
        for name, process in IMAGES.items():
            archive = docker_archive(Path(folder, "a.tar"), f"t/{name}", [images.busybox(), BASE, TOP], **process)
            store.load(archive)
        scratch = [layer([member("busybox", images.BUSYBOX.read_bytes())])]
        store.load(docker_archive(Path(folder, "a.tar"), "t/scratch", scratch, Cmd=["/busybox", "ls", "/"]))
        linked = [images.busybox(), layer([member(".wh.proc", b"")]), layer([member("proc", "/etc")])]
        store.load(docker_archive(Path(folder, "a.tar"), "t/linked", linked, Cmd=["id"]))
        patched.setenv("NETLAB_TEST_IMAGES", str(Path(folder, "store")))
        with Lab() as lab:
            yield Running(lab, store)


def test_a_container_says_which_image_it_has(running: Running) -> None:
    """By the digest of its manifest, in the repository by which it was asked for; else of its configuration."""
    with tempfile.TemporaryDirectory() as folder:
        archive = oci_layout(Path(folder, "a.tar"), "shop.example/laid:1", [images.busybox()], Cmd=["echo"])
        ((laid, _),) = running.store.load(archive)
    ids = {record.id for record, names in running.store.images() if "docker.io/t/root:latest" in names}
    expected = {
        "shop.example/laid:1": f"shop.example/laid@{laid.digest}",
        "t/root": f"sha256:{ids.pop()}",
        "agnhost": "",
    }
    for number, (image, identity) in enumerate(expected.items()):
        status = running.lab.run(f"id{number}", *(["echo", "x"] if image == "agnhost" else []), image=image)
        assert (image, status.image_id) == (image, identity)
        running.lab.node.remove(f"id{number}")
    running.store.remove("shop.example/laid:1")


@dataclass(frozen=True)
class Case:
    """What a container of an image prints."""

    image: str
    printed: list[str]
    args: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)


def _shell(script: str) -> list[str]:
    return ["sh", "-c", script]


CASES = {
    "the default command": Case("root", ["default"]),
    "args replace cmd": Case("entry", ["entry", "args"], args=["args"]),
    "command replaces both": Case("entry", ["/made/here"], command=["pwd"]),
    "the pod's working directory": Case("entry", ["/tmp"], command=["pwd"], fields={"cwd": "/tmp"}),
    "variables, the pod's before the image's": Case(
        "root", ["image", "pod", "/root"], command=_shell("echo $A $B $HOME"), fields={"env": {"B": "pod"}}
    ),
    "whiteouts and opaque folders": Case("root", ["end"], command=_shell("ls /home /opaque | grep -v : ; echo end")),
    "its own files alone": Case(
        "root", ["bin", "usr"], command=_shell("touch /usr; ls / | grep -e usr -e ^bin; ls /work /nix 2>/dev/null")
    ),
    "a folder only root may enter": Case("root", ["file"], command=_shell("ls /closed")),
    "owners": Case("root", ["1000:1001" if ROOT else "0:0"], command=["stat", "-c", "%u:%g", "/srv/own"]),
    "what it writes": Case("root", ["x", "0"], command=_shell("echo x > /bin/cat2; /bin/busybox cat /bin/cat2; id -u")),
    "files of its own": Case(
        "root",
        ["name", "1.2.3.4", "h", "root:x:0:0::/root:/bin/sh"],
        command=_shell("cat /etc/resolv.conf /etc/hosts /etc/hostname; head -n 1 /etc/link"),
        fields={"resolv_conf": "name\n", "hosts": "1.2.3.4\n", "hostname": "h"},
    ),
    "a mount where the image has nothing": Case(
        "root",
        ["yes"],
        command=_shell("test -s /usr/share/deep/hosts && echo yes"),
        fields={"mounts": [Mount(source="/etc/passwd", target="/usr/share/deep/hosts")]},
    ),
    "an image with one file": Case("scratch", ["busybox", "dev", "etc", "proc", "sys"], fields={"hostname": "h"}),
    "what every container has": Case(
        "root",
        ["no", "no", "filtered"],
        command=_shell(
            "(echo > /proc/sys/kernel/domainname) 2>/dev/null || echo no; mount -t tmpfs x /tmp 2>/dev/null || echo no;"
            "cat /sys/firmware/* /proc/keys 2>/dev/null; grep -q Seccomp:.*2 /proc/self/status && echo filtered"
        ),
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_a_container_sees(running: Running, what: str) -> None:
    case, lab = CASES[what], running.lab
    lab.run("c", *case.command, image=f"t/{case.image}", args=case.args, **case.fields)
    try:
        assert lab.printed("c").split() == case.printed
    finally:
        lab.node.remove("c")
        lab.log("c").unlink()


REFUSED = {
    "stranger": (errno.ENOENT, "the image runs as 'stranger', whom its /etc/passwd does not have"),
    "linked": (errno.ELOOP, "/proc: a link in the image"),
} | (
    {}
    if ROOT
    else {"user": (errno.EINVAL, "the container is to run as user 1000 .* an ordinary user's has one id alone")}
)


@pytest.mark.parametrize("image", REFUSED)
def test_what_cannot_be_run_says_why(running: Running, image: str) -> None:
    number, message = REFUSED[image]
    with pytest.raises(MachineError, match=message) as caught:
        running.lab.run("c", image=f"t/{image}")
    assert caught.value.errno == number


@pytest.mark.skipif(not ROOT, reason="an ordinary user's lab has one id")
def test_an_images_user(running: Running) -> None:
    """In its container and in what is run there later; with its stop signal."""
    lab = running.lab
    script = "trap 'echo usr1; exit 3' USR1; id -u; while :; do sleep 0.01; done"
    lab.node.run_container(lab.spec("u", *_shell(script), image="t/user"))
    wait_until(lambda: "1000" in lab.printed("u"), "it has its trap")
    said = lab.node.exec("u", _shell("id; echo $HOME; touch /etc/x 2>&1"), 30).output.decode()
    assert said.splitlines()[:2] == ["uid=1000(web) gid=1001(web) groups=2000(logs)", "/home/web"]
    assert "Permission denied" in said
    lab.node.stop("u")
    assert (lab.ended("u").exit_code, lab.printed("u").split()[-1]) == (3, "usr1")
    lab.node.remove("u")
    lab.run("n", "id", image="t/numbers")
    assert lab.printed("n") == "uid=7 gid=8\n"
    lab.node.remove("n")


@pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="the host has no mmdebstrap")
def test_an_image_of_debian_packages(running: Running) -> None:
    """Made by Debian's own tool; it has what its packages have, and nothing of the host's."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "root.tar")
        # An ordinary user need have no ids beside his own.
        mode = "root" if ROOT else "chrootless"
        tool = ["mmdebstrap", "--quiet", f"--mode={mode}", "--variant=extract", "--include=busybox-static"]
        done = subprocess.run(
            [*tool, "bookworm", str(made)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if "Unable to fetch" in done.stderr or "Could not resolve" in done.stderr:
            pytest.skip("Debian's mirror does not answer")
        assert done.returncode == 0, done.stderr
        script = "b=/bin/busybox; $b id -u; $b ls /usr/share/doc; $b ls /usr; $b cp $b / && /busybox id -g"
        command = ["/bin/busybox", "sh", "-c", script]
        running.store.load(docker_archive(Path(folder, "a.tar"), "t/debian", [made.read_bytes()], Cmd=command))
    assert running.lab.run("debian", image="t/debian").exit_code == 0
    assert running.lab.printed("debian").split() == ["0", "busybox-static", "share", "0"]


def test_a_running_image_is_not_removed(running: Running) -> None:
    lab = running.lab
    lab.node.run_container(lab.spec("c", "/busybox", "sleep", "1000", image="t/scratch"))
    with pytest.raises(ConflictError, match="image t/scratch is in use"):
        running.store.remove("t/scratch")
    lab.node.kill("c", signal.SIGKILL)
    lab.ended("c")
    lab.node.remove("c")
    running.store.remove("t/scratch")
    with pytest.raises(MachineError, match=r"'t/scratch' is not present: .*netlab image pull t/scratch") as caught:
        lab.node.run_container(lab.spec("c", image="t/scratch"))
    assert caught.value.errno == errno.ENOPKG
