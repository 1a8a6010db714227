"""Pulls images by skopeo: it knows registries' protocols, mirrors, and credentials (`docker login`, `podman login`)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from netlab.errors import NetlabError, UnsupportedError
from netlab.oci.records import Record
from netlab.oci.store import Store, full_name

SKOPEO = "skopeo"
_POLICIES = (Path("/etc/containers/policy.json"), Path(".config/containers/policy.json"))
"""containers-policy.json(5): whose signatures are asked for. Without one, nobody's, as in Docker."""


def pull(store: Store, reference: str) -> tuple[Record, list[str]]:
    """Bring an image from its registry into the store, in the variant for this machine.

    skopeo checks the manifest and the layers against their digests; what it has written is checked again. Raises
    `UnsupportedError` without skopeo, and `NetlabError` for what it says.
    """
    full = full_name(reference)
    if shutil.which(SKOPEO) is None:
        raise UnsupportedError(
            "pulling images needs skopeo: `sudo apt-get install skopeo`; "
            "or bring a file from elsewhere: `docker save IMAGE | netlab image load -`"
        )
    with tempfile.TemporaryDirectory(prefix="netlab-pull-") as folder:
        policy = [] if any((Path.home() / each).exists() for each in _POLICIES) else ["--insecure-policy"]
        command = [SKOPEO, *policy, "copy", "--quiet", f"docker://{full}", f"dir:{folder}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NetlabError(f"image {full} was not pulled: {_reason(done.stderr)}")
        digest = hashlib.sha256(Path(folder, "manifest.json").read_bytes()).hexdigest()
        return store.load_folder(Path(folder), full, f"sha256:{digest}")[0]


def _reason(said: str) -> str:
    """The last line of skopeo's, without its logger's dressing."""
    lines = said.strip().splitlines() or ["skopeo says nothing"]
    text = lines[-1].partition('msg="')[2].removesuffix('"') or lines[-1]
    return text.replace('\\"', '"')
