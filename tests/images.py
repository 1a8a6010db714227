"""Container images made for a test: of busybox-static, or of any files; as `docker save` and OCI's tools write them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from netlab.oci import config

BUSYBOX = Path("/usr/bin/busybox")
"""Of Debian's busybox-static."""

Content = bytes | str | None
"""Of a file; the target of a link; of a folder None."""

PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:1001:\nlogs:x:2000:web\n"


def member(name: str, content: Content = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a layer: a folder, a file (bytes), or a symbolic link (text); `fields` are tarfile's."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE if isinstance(content, str) else tarfile.REGTYPE
    info.mode = 0o755
    if isinstance(content, str):
        info.linkname = content
    data = content if isinstance(content, bytes) else b""
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A layer, uncompressed."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return written.getvalue()


def busybox() -> bytes:
    """A layer with a shell, its tools and two users."""
    applets = ("sh", "cat", "ls", "id", "sleep", "touch", "pwd", "echo", "stat", "head", "grep", "sed", "wc", "mount")
    return layer(
        [
            *(member(name) for name in ("bin", "etc", "home", "home/web", "root", "proc")),
            member("tmp", mode=0o1777),
            member("bin/busybox", BUSYBOX.read_bytes()),
            *(member(f"bin/{name}", "busybox") for name in applets),
            member("etc/passwd", PASSWD.encode(), mode=0o644),
            member("etc/group", GROUP.encode(), mode=0o644),
        ]
    )


def digest(data: bytes) -> str:
    """As descriptors have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def configuration(layers: Iterable[bytes], **process: Any) -> bytes:
    """An image's configuration; `process` is its `config`."""
    rootfs = {"type": "layers", "diff_ids": [digest(each) for each in layers]}
    return json.dumps(
        {"architecture": config.architecture(), "os": "linux", "config": process, "rootfs": rootfs}
    ).encode()


def docker_archive(path: Path, name: str, layers: list[bytes], **process: Any) -> Path:
    """What `docker save` writes."""
    files = {f"{number}/layer.tar": data for number, data in enumerate(layers)}
    text = configuration(layers, **process)
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": list(files)}
    return _written(path, files | {"config.json": text, "manifest.json": json.dumps([entry]).encode()})


def oci_layout(path: Path, name: str, layers: list[bytes], **process: Any) -> Path:
    """An OCI layout in a tar file, its layers compressed by gzip, beside the variant of another machine."""
    blobs = {}

    def kept(data: bytes, kind: str, **fields: Any) -> dict[str, Any]:
        blobs[f"blobs/sha256/{digest(data).removeprefix('sha256:')}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data), **fields}

    manifest = {
        "schemaVersion": 2,
        "config": kept(configuration(layers, **process), "config.v1+json"),
        "layers": [kept(gzip.compress(each, mtime=0), "layer.v1.tar+gzip") for each in layers],
    }
    other = {"digest": digest(b""), "size": 0, "platform": {"os": "linux", "architecture": "s390x"}}
    own = kept(
        json.dumps(manifest).encode(),
        "manifest.v1+json",
        platform={"os": "linux", "architecture": config.architecture()},
    )
    index = kept(
        json.dumps({"schemaVersion": 2, "manifests": [other, own]}).encode(),
        "index.v1+json",
        annotations={"io.containerd.image.name": name},
    )
    return _written(path, blobs | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()})


def _written(path: Path, files: Mapping[str, bytes]) -> Path:
    path.write_bytes(layer(member(name, data) for name, data in files.items()))
    return path
