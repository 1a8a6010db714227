"""The root file system of a lab's machines and containers: only what programs need of the host's, and read-only.

It is a tmpfs. The host's programs and libraries, and netlab's own code and interpreter, are bound to their usual paths
in it, and some files of /etc are copied. It has nothing else of the host: no home directory, no secret, no other lab.
The lab's first machine makes it; the others and their containers copy its mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netlab.errors import UsageError
from netlab.net import syscalls

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_EMPTY = (
    *("/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/home", "/mnt", "/media", "/opt", "/srv"),  # noqa: S108
    *("/opt/netlab-images", "/var/cache", "/var/lib", "/var/log", "/var/empty", "/var/tmp"),  # noqa: S108
)
_LINKS = {"/var/run": "/run", "/var/lock": "/run/lock"}
_ETC = (
    # Names: users, this host, services and numbers.
    *("passwd", "group", "nsswitch.conf", "hosts", "resolv.conf", "hostname", "host.conf", "gai.conf", "networks"),
    *("protocols", "services", "rpc", "ethertypes", "netconfig", "iproute2", "machine-id", "os-release"),
    # The loader, the language, the time, the terminal, the shells.
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "locale.conf", "locale.alias", "localtime"),
    *("timezone", "adjtime", "terminfo", "inputrc", "profile", "profile.d", "bash.bashrc", "bashrc", "shells"),
    *("environment", "login.defs", "magic", "mime.types", "debian_version", "redhat-release", "system-release"),
    # Configuration of languages, trusted certificates, and what network tools read.
    *("python3", "perl", "ssl/certs", "ssl/openssl.cnf", "ca-certificates.conf", "pki/tls", "pki/ca-trust"),
    *("crypto-policies", "xtables.conf", "ebtables.conf", "libnl", "libnl-3", "wireshark", "bpf_pinning", "mtab"),
)
_OWN_ETC = ("hosts", "resolv.conf", "hostname")
"""Files of which each container has its own: in the tree they are regular files, even if they are links on the host."""
_OWN_TREES = {
    "/run": "mode=0755,size=256m",
    "/tmp": "mode=1777,size=256m",  # noqa: S108
    "/dev/shm": "mode=1777,size=64m",  # noqa: S108
    "/dev/pts": "newinstance,ptmxmode=0666,mode=0620",
}
TOOLS = "/opt/netlab-tools"
"""The folder of programs that containers have besides the host's, last on their PATH."""
_TOOLS = {"dig": "netlab.dns.dig", "nslookup": "netlab.dns.nslookup"}
"""Each a module of netlab's: what Kubernetes' tests call in their images, and hosts need not have."""
IMAGES = "/opt/netlab-images"
"""Where machines have the user's store of images, read-only; an empty folder where the kernel cannot show it."""
_LARGEST_COPY = 4 << 20  # bytes of one file of /etc
_ASIDE = "/mnt"
_STAGE = "/tmp"  # noqa: S108 - every host has it, and it is a directory


@dataclass(slots=True)
class Plan:
    """Which of the host's files the tree has: the real paths to bind, and the symbolic links to them.

    `masked` is a directory inside a bound one that must appear empty, or None.
    """

    bound: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    masked: str | None = None

    def has(self, path: str) -> bool:
        """Whether a real path is bound and not masked."""
        owner = max((each for each in self.bound if _within(path, each)), key=len, default=None)
        if owner is None:
            return False
        return self.masked is None or not _within(path, self.masked) or _within(owner, self.masked)

    def expose(self, path: str) -> None:
        """Add a path to the tree, if the host has it: its real path, and every link on the way."""
        real = self.follow(path)
        if os.path.exists(real) and not self.has(real):  # noqa: PTH110
            self.bound.append(real)

    def follow(self, path: str) -> str:
        """The real path, as os.path.realpath gives it. Records the links on the way that no bound directory has."""
        done = "/"
        left = [part for part in path.split("/") if part not in ("", ".")][::-1]
        for _ in range(1000):  # a loop of links ends in a path that does not exist
            if not left:
                break
            part = left.pop()
            if part == "..":
                done = os.path.dirname(done)  # noqa: PTH120 - pid 1 stays small
                continue
            here = os.path.join(done, part)  # noqa: PTH118
            if not os.path.islink(here):  # noqa: PTH114
                done = here
                continue
            target = os.readlink(here)  # noqa: PTH115
            if not self.has(here):
                self.links[here] = target
            if target.startswith("/"):
                done = "/"
            left += [each for each in target.split("/") if each not in ("", ".")][::-1]
        return os.path.join(done, *reversed(left))  # noqa: PTH118


def plan(lab_dir: str) -> Plan:
    """The tree of a lab in `lab_dir`. The directory of all the user's labs is masked if any of it would be visible.

    Raises `UsageError` for labs among the host's programs, which could not be hidden.
    """
    made = Plan()
    for path in (*_PROGRAMS, *code()):
        made.expose(path)
    home = os.path.dirname(os.path.realpath(lab_dir))  # noqa: PTH120
    if made.has(home):
        if home in made.bound or any(_within(each, home) for each in _program_folders()):
            raise UsageError(f"{home} holds the host's programs, so labs in it cannot be hidden: set NETLAB_HOME")
        made.masked = home
        for path in code():
            made.expose(path)
    made.follow(lab_dir)
    made.bound.sort(key=len)  # the outer before the inner
    return made


def code() -> list[str]:
    """The paths of the interpreter, its libraries and netlab itself, and nothing beside them."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    found = [package, f"{os.path.dirname(package)}/cni_plugins"]  # noqa: PTH120
    for prefix in (sys.prefix, sys.base_prefix):
        found += [f"{prefix}/{name}" for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    found += [f"{sys.prefix}/libexec/netlab"]  # the CNI executable in C
    found += [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]  # noqa: PTH119
    return [*found, sys.executable]


def protect_host(lab_dir: str) -> None:
    """Make everything in this mount namespace read-only except the lab's directory. Raises `OSError`."""
    real = os.path.realpath(lab_dir)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount(real, real, None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.set_read_only("/", recursive=True)
    syscalls.set_read_only(real, read_only=False, recursive=True)
    # The kernel allows a new /proc or /sys only where the old one is writable; their files belong to the host's root.
    for path in ("/proc", "/sys"):
        syscalls.set_read_only(path, read_only=False)


def open_sources(wanted: Plan, lab_dir: str, images: str | None) -> dict[str, int]:
    """A descriptor of everything to bind, of the lab's directory, and of the store of images.

    Call this in the mount namespace in which the tree is made, in a process with access to all of it; from then on
    paths do not matter. Raises `OSError`.
    """
    paths = [*wanted.bound, os.path.realpath(lab_dir), *([] if images is None else [images])]
    return {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}


def enter(wanted: Plan, sources: dict[str, int], lab_dir: str, images: str | None) -> None:
    """Make the tree, and make it the root of all processes in this mount namespace that share the caller's root.

    The caller must have its own mount namespace, and new pid and network namespaces. The lab's directory is writable.
    Raises `OSError`.
    """
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", _STAGE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755,size=64m")
    mask = os.umask(0o022)
    make_skeleton(wanted, _STAGE)
    _make_devices(f"{_STAGE}/dev", _DEVICES_OF_MACHINES)
    # Before the bound paths: the lab, or netlab itself, may be below /tmp.
    mount_own_trees(_STAGE)
    for path in wanted.bound:
        _bind(sources[path], f"{_STAGE}{path}")
        syscalls.set_read_only(f"{_STAGE}{path}", recursive=True)
        if wanted.masked is not None and _within(wanted.masked, path):
            syscalls.mount("tmpfs", f"{_STAGE}{wanted.masked}", "tmpfs", _SECURE, "mode=0755,size=1m")
    real = os.path.realpath(lab_dir)
    _bind(sources[real], f"{_STAGE}{real}")
    if images is not None:
        _bind(sources[images], f"{_STAGE}{IMAGES}")
        syscalls.set_read_only(f"{_STAGE}{IMAGES}", recursive=True)
    os.umask(mask)
    for descriptor in sources.values():
        os.close(descriptor)
    mount_proc(f"{_STAGE}/proc")
    _mount_first_sysfs()
    syscalls.set_read_only(_STAGE)
    os.chdir(_STAGE)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def mount_own_trees(root: str) -> None:
    """Mount what each machine has for itself: an empty /run, /tmp, /dev/shm and /dev/pts."""
    for path in _OWN_TREES:
        _mount_own_tree(path, f"{root}{path}")


def renew_own_trees(lab_dir: str) -> None:
    """Replace the parent machine's /run, /tmp, /dev/shm, /dev/pts, /proc and /sys by this machine's own.

    The lab's directory and netlab's code stay visible if they are in /tmp or /run.
    """
    for tree in _OWN_TREES:
        _mount_own_tree(tree, _ASIDE)
        kept: list[str] = []
        for path in sorted({lab_dir, *code()}, key=len):
            if _within(path, tree) and os.path.exists(path) and not any(_within(path, each) for each in kept):  # noqa: PTH110
                kept.append(path)
                source = os.open(path, os.O_PATH | os.O_CLOEXEC)
                _bind(source, f"{_ASIDE}{path.removeprefix(tree)}")
                os.close(source)
        _put_in_place(tree)
    mount_proc(_ASIDE)
    _put_in_place("/proc")
    if mount_sysfs(_ASIDE):
        _put_in_place("/sys")


def umount_own_trees() -> None:
    """Unmount what `mount_own_trees` mounted, and everything mounted in it."""
    for path in _OWN_TREES:
        syscalls.umount(path, syscalls.MNT_DETACH)


def _mount_own_tree(path: str, target: str) -> None:
    kind = "devpts" if path == "/dev/pts" else "tmpfs"
    flags = syscalls.MS_NOSUID | (syscalls.MS_NODEV if kind == "tmpfs" else syscalls.MS_NOEXEC)
    syscalls.mount(kind, target, kind, flags, _OWN_TREES[path])


def _put_in_place(path: str) -> None:
    """Replace what is mounted at `path` by what is mounted at _ASIDE."""
    syscalls.umount(path, syscalls.MNT_DETACH)
    syscalls.mount(_ASIDE, path, None, syscalls.MS_MOVE)


def mount_proc(target: str = "/proc") -> None:
    """Mount /proc for the current pid namespace."""
    syscalls.mount("proc", target, "proc", _QUIET)


def mount_sysfs(target: str = "/sys") -> bool:
    """Mount /sys for the current network namespace, read-only. Returns whether the kernel allows it.

    It refuses when something is mounted over parts of the old /sys (as container engines do). Then the old one stays,
    and only /sys/class/net is wrong: it shows another network namespace.
    """
    try:
        syscalls.mount("sysfs", target, "sysfs", _QUIET)
    except OSError:
        return False
    # The mount, not the file system: `ip netns exec` mounts a writable one, which needs a visible writable one.
    syscalls.set_read_only(target)
    return True


def show_of_lab(lab_dir: str, visible: Sequence[str]) -> None:
    """Leave of the lab's directory in this mount namespace some files and folders, as they are in it; the rest is gone.

    A machine needs few of the lab's files, and what others keep secret is among the rest. Raises `OSError`.
    """
    syscalls.mount("tmpfs", _ASIDE, "tmpfs", _SECURE, "mode=0700,size=1m")
    for path in visible:
        source = os.open(path, os.O_PATH | os.O_CLOEXEC)
        real = os.readlink(f"/proc/self/fd/{source}")  # noqa: PTH115 - the lab's may be behind a link
        _bind(source, f"{_ASIDE}{real.removeprefix(lab_dir)}")
        os.close(source)
    syscalls.set_read_only(_ASIDE)
    _put_in_place(lab_dir)


def make_template(lab_dir: str) -> None:
    """Remove from this mount namespace what belongs to the machine and not to its containers.

    /dev gets only the devices that every container may have, as runtimes do.
    """
    umount_own_trees()
    if os.path.ismount(lab_dir):
        syscalls.umount(lab_dir, syscalls.MNT_DETACH)
    _make_devices(_ASIDE, _DEVICES)
    _put_in_place("/dev")


_SECURE = syscalls.MS_NOSUID | syscalls.MS_NODEV
_QUIET = _SECURE | syscalls.MS_NOEXEC
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICES_OF_MACHINES = (*_DEVICES, "net/tun")


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _program_folders() -> list[str]:
    """Where programs are found; a directory that contains one of these is not masked."""
    return [os.path.realpath(f"{top}/{name}") for top in ("/", "/usr") for name in ("bin", "sbin", "lib")]


def make_skeleton(wanted: Plan, root: str) -> None:
    """Make in `root` what of the tree is not bound: folders, links, and the copies of /etc. Raises `OSError`."""
    for path in _EMPTY:
        os.makedirs(f"{root}{path}", exist_ok=True)  # noqa: PTH103
    for path, target in {**_LINKS, **wanted.links}.items():
        os.makedirs(os.path.dirname(f"{root}{path}"), exist_ok=True)  # noqa: PTH103, PTH120
        if not os.path.lexists(f"{root}{path}"):
            os.symlink(target, f"{root}{path}")  # noqa: PTH211
    os.makedirs(f"{root}/etc", exist_ok=True)  # noqa: PTH103
    copy_etc("/etc", f"{root}/etc")
    _make_tools(f"{root}{TOOLS}")


def _make_tools(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    for name, module in _TOOLS.items():
        code = f"import sys; sys.path.insert(0, {home!r}); from {module} import main; sys.exit(main())"
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -c {shlex.quote(code)} "$@"\n')
        os.chmod(f"{folder}/{name}", 0o755)  # noqa: PTH101, S103 - all users of all containers run it


def copy_etc(source: str, target: str) -> None:
    """Copy what programs need of /etc, without files that are not readable by all users."""
    for name in _ETC:
        made = f"{target}/{name}"
        os.makedirs(os.path.dirname(made), exist_ok=True)  # noqa: PTH103, PTH120
        with contextlib.suppress(OSError):
            _copy(f"{source}/{name}", made, follow=name in _OWN_ETC)
    for name in _OWN_ETC:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(f"{target}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def _copy(source: str, target: str, *, follow: bool = False) -> None:
    status = os.stat(source, follow_symlinks=follow)  # noqa: PTH116
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(target)  # noqa: PTH102
        for name in os.listdir(source):  # noqa: PTH208
            with contextlib.suppress(OSError):
                _copy(f"{source}/{name}", f"{target}/{name}")
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= _LARGEST_COPY:
        # Not shutil: importing it maps libraries that every container would pay for.
        with open(source, "rb") as original, open(target, "wb") as copy:  # noqa: PTH123
            copy.write(original.read())


def _bind(source: int, target: str) -> None:
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
    syscalls.mount(f"/proc/self/fd/{source}", target, None, syscalls.MS_BIND | syscalls.MS_REC)


def _mount_first_sysfs() -> None:
    target = f"{_STAGE}/sys"
    # Twice: `ip netns exec` unmounts /sys before it mounts its own, which the kernel allows only if one is visible.
    if not (mount_sysfs(target) and mount_sysfs(target)):
        syscalls.mount("/sys", target, None, syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.set_read_only(target, recursive=True)


def _make_devices(target: str, names: Sequence[str]) -> None:
    syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=0755,size=1m")
    for name in _present(names):
        os.makedirs(os.path.dirname(f"{target}/{name}"), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(f"{target}/{name}", os.O_WRONLY | os.O_CREAT, 0o666))
        syscalls.mount(f"/dev/{name}", f"{target}/{name}", None, syscalls.MS_BIND)
    links = (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"))
    for name, of_process in links:
        os.symlink(f"/proc/self/{of_process}", f"{target}/{name}")  # noqa: PTH211
    os.symlink("pts/ptmx", f"{target}/ptmx")  # noqa: PTH211
    for name in ("pts", "shm"):
        os.mkdir(f"{target}/{name}")  # noqa: PTH102
    syscalls.set_read_only(target)


def _present(names: Iterable[str]) -> list[str]:
    return [name for name in names if os.path.exists(f"/dev/{name}")]  # noqa: PTH110
