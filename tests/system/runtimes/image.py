"""A container image made of busybox alone, as `docker save` writes it: what both podman and containerd load."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
"""Of Debian's busybox-static."""
NAME = "localhost/busybox:latest"
PAGE = "served by a container\n"
"""What a container that runs `SERVE` answers at /."""
SERVE = ("httpd", "-f", "-p", "80", "-h", "/www")
_APPLETS = ("sh", "true", "sleep", "httpd", "wget", "cat")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(path: Path) -> Path:
    """Write the image's archive; its path."""
    layer = _layer()
    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for member, content in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(archive, member, content, 0o644)
    return path


def _layer() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for folder in ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "www"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        _add(archive, "www/index.html", PAGE.encode(), 0o644)
        for applet in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
