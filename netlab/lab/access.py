"""How a program on the host reaches a lab's API as any cluster's: a kubeconfig, printed or merged into a file."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netlab import files
from netlab.api.resources import CREDENTIALS
from netlab.errors import ConflictError, NetlabError, UsageError
from netlab.net.addresses import host_port

if TYPE_CHECKING:
    from netlab.lab.lab import Lab
    from netlab.lab.paths import LabPaths

_LARGEST = 1 << 20
"""Bytes of a kubeconfig: what is larger is none."""

_ENTRIES = ("clusters", "contexts", "users")
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked for by --api-address
"""Where to reach on this host what listens everywhere."""

Config = dict[str, Any]
"""A kubeconfig (config.v1) as plain values."""


def context_name(lab: str) -> str:
    """The name of a lab's cluster, user and context in a kubeconfig."""
    return f"netlab-{lab}"


def kubeconfig(lab: Lab) -> Config:
    """A kubeconfig with an administrator's certificate, made for it. Raises what `Lab.client` raises, and `ApiError`.

    Never a file in the lab's directory: a kubeconfig names programs that kubectl runs, and the lab's root writes there.
    """
    issued = lab.client().request("POST", CREDENTIALS)
    name = context_name(lab.name)
    address = lab.spec().apiAddress
    server = f"https://{host_port(_LOCAL.get(address, address), _port(lab))}"
    cluster = {"server": server, "certificate-authority-data": _encoded(issued["certificateAuthority"])}
    user = {
        "client-certificate-data": _encoded(issued["certificate"]),
        "client-key-data": _encoded(issued["key"]),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _port(lab: Lab) -> int:
    text = lab.paths.api_port.read_text(encoding="ascii").strip()
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise NetlabError(f"{lab.paths.api_port}: {text[:20]!r} is no port: `netlab down`, then `netlab up`")
    return int(text)


def _encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode("ascii")


def text(config: Config) -> str:
    """A kubeconfig as it is written."""
    import yaml

    written: str = yaml.safe_dump(config, sort_keys=False, default_flow_style=False, allow_unicode=True)
    return written


def require_writable(paths: LabPaths, path: Path) -> None:
    """Raise what `write` would raise for what is in a file now."""
    _refuse_foreign(paths, path.absolute(), _read(path))


def write(paths: LabPaths, own: Config, path: Path) -> None:
    """Merge a lab's own kubeconfig into a file, and make its context the current one there.

    The file is made if it does not exist (mode 0600); `remove` takes out what this put in. Raises `UsageError` for a
    file that is no kubeconfig, `ConflictError` for one that another program is writing, or that has other entries of
    this name.
    """
    path = path.absolute()
    with _locked(path):
        there = _read(path)
        _refuse_foreign(paths, path, there)
        # First, so that `netlab down` finds what an interrupted command has written.
        files.replace(paths.kubeconfig, f"{path}\n")
        _replace(path, text(_merged(there, own)))


def remove(paths: LabPaths) -> None:
    """Take what `write` put into a kubeconfig out again; a file in which nothing else is left is removed.

    Raises `NetlabError` when the file cannot be changed.
    """
    path = _recorded(paths)
    if path is None or not path.is_file():
        return
    name = context_name(paths.name)
    try:
        with _locked(path):
            there = _read(path)
            if not any(name in _named(there, section) for section in _ENTRIES):
                return
            for section in _ENTRIES:
                there[section] = [each for each in there.get(section) or [] if each.get("name") != name]
            if there.get("current-context") == name:
                there["current-context"] = ""
            if any(there[section] for section in _ENTRIES):
                _replace(path, text(there))
            else:
                path.unlink()
    except UsageError:
        return  # It has been replaced by something else, which is not ours to touch.


def _recorded(paths: LabPaths) -> Path | None:
    """The file that `write` wrote. What another user has noted, as the lab's root could, does not count."""
    try:
        with paths.kubeconfig.open(encoding="utf-8") as file:
            writer = os.fstat(file.fileno()).st_uid
            path = Path(file.read().removesuffix("\n"))
    except (OSError, ValueError):
        return None
    return path if path.is_absolute() and writer == os.geteuid() else None


def _refuse_foreign(paths: LabPaths, path: Path, there: Config) -> None:
    name = context_name(paths.name)
    if _recorded(paths) != path and any(name in _named(there, section) for section in _ENTRIES):
        raise ConflictError(
            f"{path} has entries called {name!r} that this lab did not write: remove them, or give another file"
        )


def _merged(there: Config, own: Config) -> Config:
    merged: Config = {"apiVersion": "v1", "kind": "Config"} | there
    for section in _ENTRIES:
        merged[section] = list((_named(there, section) | _named(own, section)).values())
    merged["current-context"] = own["current-context"]
    return merged


def _named(config: Config, section: str) -> dict[str, Any]:
    return {each["name"]: each for each in config.get(section) or []}


def _read(path: Path) -> Config:
    """A kubeconfig; {} if there is no file, or an empty one. Raises `UsageError` for what is none."""
    import yaml

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise UsageError(f"{path}: it is no kubeconfig, and is left alone: give another file")
        raw = file.read()
    try:
        found = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        found = False
    if found is None:
        return {}
    if not isinstance(found, dict) or found.get("kind", "Config") != "Config" or not _is_well_formed(found):
        raise UsageError(f"{path}: it is no kubeconfig, and is left alone: give another file")
    return found


def _is_well_formed(config: Config) -> bool:
    sections = [config.get(section) or [] for section in _ENTRIES]
    return all(
        isinstance(section, list)
        and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in section)
        for section in sections
    )


def _replace(path: Path, content: str) -> None:
    """Write a file whole; through a link, and keeping its mode: the file is the user's."""
    target = path.resolve()
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        files.replace(target, content, mode)
    except OSError as error:
        raise NetlabError(f"{path}: it cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a kubeconfig's lock, as kubectl does (client-go tools/clientcmd/config.go): a file FILE.lock, made anew."""
    lock = path.with_name(path.name + ".lock")
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise ConflictError(
            f"{path} is being changed by another program: try again, or remove {lock} if there is none"
        ) from None
    except OSError as error:
        raise NetlabError(f"{path}: it cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
