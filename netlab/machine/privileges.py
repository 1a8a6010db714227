"""What prevents a lab's namespaces, and the remedy: capabilities, settings, a container's runtime."""

from __future__ import annotations

from pathlib import Path

# include/uapi/linux/capability.h
_NEEDED = {"SYS_ADMIN": 21, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_CHROOT": 18, "SETPCAP": 8}
"""What root needs for a lab: namespaces and mounts, networks, packet sockets, setns(2) into a mount namespace, and
dropping the capabilities of containers."""

_SWITCHES = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),  # Ubuntu 23.10 and later
    "kernel.unprivileged_userns_clone": ("0", "1"),  # Debian's patch, until Debian 11
    "user.max_user_namespaces": ("0", "15000"),
}
_LIMITS = {f"user.max_{kind}_namespaces": ("0", "15000") for kind in ("pid", "net", "mnt", "uts", "ipc")}
_USUAL = "user.max_user_namespaces=15000"

_CONTAINERS = ("/run/.containerenv", "/.dockerenv")
"""Files that podman and Docker put into every container."""

_UNMASKED = "--security-opt unmask=ALL (Docker: systempaths=unconfined)"
_NO_FILTER = "--security-opt seccomp=unconfined"


def missing() -> list[str]:
    """The capabilities that root needs for a lab and this process lacks."""
    effective = int(_status("CapEff"), 16)
    return [name for name, number in _NEEDED.items() if not effective >> number & 1]


def remedy(*, ordinary: bool) -> str:
    """What to do where the kernel refuses namespaces or mounts, for an ordinary user or for root."""
    if ordinary:
        setting = _refusing(_SWITCHES | _LIMITS)
        if setting is None and _is_confined():
            root = "as root in one with --cap-add=SYS_ADMIN --cap-add=NET_ADMIN"
            return f"start the container with {_NO_FILTER} {_UNMASKED}, or run netlab {root}"
        return f"`sudo sysctl {setting or _USUAL}`, or run netlab as root"
    if lacking := missing():
        named = ", ".join(f"CAP_{name}" for name in lacking)
        return f"this root lacks {named}: {_container([f'--cap-add={name}' for name in lacking])}"
    if setting := _refusing(_LIMITS | {"user.max_user_namespaces": _SWITCHES["user.max_user_namespaces"]}):
        return f"`sysctl {setting}`"
    return _container(_confinement() or [_UNMASKED])


def _container(flags: list[str]) -> str:
    if not _is_confined():
        return "run netlab as a root that has all capabilities"
    return f"start the container with {' '.join(flags)}, or with --privileged"


def _is_confined() -> bool:
    """Whether this process is in a container or under a seccomp filter."""
    return any(Path(mark).exists() for mark in _CONTAINERS) or _status("Seccomp") == "2"


def _confinement() -> list[str]:
    """The flags that remove what confines root beyond missing capabilities."""
    flags = [_NO_FILTER] if _status("Seccomp") == "2" else []
    label = _label()
    if label:
        flags.append(f"--security-opt {'label=disable' if ':' in label else 'apparmor=unconfined'}")
    return flags


def _label() -> str:
    """The SELinux context or the AppArmor profile that confines this process, or ""."""
    try:
        label = Path("/proc/self/attr/current").read_text(encoding="ascii").strip("\0\n ")
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if label.startswith(("unconfined", "kernel")) or ":unconfined_" in label else label


def _refusing(settings: dict[str, tuple[str, str]]) -> str | None:
    """The sysctl assignment that allows namespaces, if a sysctl refuses them."""
    for name, (refusing, allowing) in settings.items():
        try:
            value = Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == refusing:
            return f"{name}={allowing}"
    return None


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{field}:")), "0")
