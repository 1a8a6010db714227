"""Attachments, and the cached results of their adds, which a runtime must pass to CHECK, DEL and GC.

The files have libcni's names and contents: a runtime that uses libcni finds what this one added, and the reverse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab import files
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_identifier, is_interface_name

_KIND = "cniCacheV1"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container.

    `netns` is the path of its network namespace; it may be empty in a delete after the namespace is gone.
    `args` become CNI_ARGS (such as K8S_POD_NAME); `runtime_config` goes to the plugins that declare the capability.
    """

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: Mapping[str, str] = field(default_factory=dict)
    runtime_config: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse invalid names, which would become file names too. Raises `CniError`."""
        if not is_identifier(self.container_id):
            raise CniError(errors.INVALID_ENVIRONMENT, f"container {self.container_id!r}: not a valid identifier")
        if not is_interface_name(self.ifname):
            raise CniError(errors.INVALID_ENVIRONMENT, f"interface {self.ifname!r}: not a valid name")


class Cache:
    """The result of each add until its delete, one file each in a folder. Its methods raise `CniError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, network: NetworkList, attachment: Attachment) -> bool:
        """Whether the attachment was added and has not been deleted."""
        return self._path(network, attachment).exists()

    def remember(self, network: NetworkList, attachment: Attachment, result: Object) -> None:
        """Keep the result of an add."""
        entry = {
            "kind": _KIND,
            "containerId": attachment.container_id,
            "config": base64.b64encode(network.text).decode(),
            "ifName": attachment.ifname,
            "networkName": network.name,
            "netns": attachment.netns,
            "cniArgs": list(attachment.args.items()),
            "capabilityArgs": dict(attachment.runtime_config),
            "result": result,
        }
        path = self._path(network, attachment)
        try:
            try:
                files.replace(path, json.dumps(entry))
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.replace(path, json.dumps(entry))
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"cannot store the result: {path}: {error.strerror}") from error

    def recall(self, network: NetworkList, attachment: Attachment) -> Object | None:
        """The result of the add, or None if there is none."""
        path = self._path(network, attachment)
        try:
            result = json.loads(path.read_bytes()).get("result")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            raise CniError(errors.IO_FAILURE, f"{path}: {error}; remove the file") from error
        return result if isinstance(result, dict) else None

    def forget(self, network: NetworkList, attachment: Attachment) -> None:
        """Drop the result, if there is one."""
        path = self._path(network, attachment)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"{path}: {error.strerror}") from error

    def added(self, network: NetworkList, attachment: Attachment) -> Attachment | None:
        """The attachment as it was added, or None if it was not."""
        found = _read(self._path(network, attachment))
        return found[1] if found is not None else None

    def attachments(self, network: NetworkList) -> list[Attachment]:
        """The attachments to a network that were added and not deleted. Like libcni, skips files that are not results,
        since the folder may be shared.
        """
        try:
            paths = sorted(path for path in self._folder.iterdir() if path.name.startswith(f"{network.name}-"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"{self._folder}: {error.strerror}") from error
        found = [_read(path) for path in paths]
        return [attachment for name, attachment in filter(None, found) if name == network.name]

    def _path(self, network: NetworkList, attachment: Attachment) -> Path:
        return self._folder / f"{network.name}-{attachment.container_id}-{attachment.ifname}"


def _read(path: Path) -> tuple[str, Attachment] | None:
    """The network name and the attachment of a result, or None if the file is not a result."""
    try:
        entry = json.loads(path.read_bytes())
        if entry["kind"] != _KIND:
            return None
        return entry["networkName"], Attachment(
            entry["containerId"],
            entry.get("netns") or _sandbox(entry),
            entry["ifName"],
            dict(entry.get("cniArgs") or ()),
            dict(entry.get("capabilityArgs") or ()),
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _sandbox(entry: Object) -> str:
    """The network namespace according to the result: libcni 1.1 (podman 4, containerd 1.6) stores it nowhere else."""
    interfaces = (entry.get("result") or {}).get("interfaces") or ()
    return next((item["sandbox"] for item in interfaces if item.get("sandbox")), "")
