"""Real images, from the command line to a pod."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.e2e.conftest import Netlab, eventually
from tests.images import docker_archive, oci_layout

pytestmark = pytest.mark.skipif(not images.BUSYBOX.exists(), reason="the host has no busybox-static")

PAGE = "mkdir -p /www && echo from the image > /www/index.html && exec httpd -f -h /www"


def pod(name: str, image: str, **fields: Any) -> str:
    """A manifest."""
    containers = [{"name": "c", "image": image, **fields}]
    metadata = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})


def waiting(lab: Netlab, name: str) -> tuple[str, str]:
    """Why a pod's container is not running."""
    statuses = lab.json("get", "pod", name)["status"].get("containerStatuses") or [{}]
    state = statuses[0].get("state", {}).get("waiting") or {}
    return state.get("reason", ""), state.get("message", "")


def test_from_a_file_to_a_pod(lab: Netlab) -> None:
    """An image that is brought while pods wait for it; it is listed, held while it runs, and goes."""
    lab.ok("apply", "-f", "-", stdin=pod("web", "shop.example/web:1"))
    lab.ok("apply", "-f", "-", stdin=pod("never", "shop.example/web:2", imagePullPolicy="Never"))
    eventually(lambda: waiting(lab, "web")[0] == "ImagePullBackOff")
    assert "`netlab image pull shop.example/web:1` or `netlab image load FILE`" in waiting(lab, "web")[1]
    eventually(lambda: waiting(lab, "never")[0] == "ErrImageNeverPull")
    assert "is not present with pull policy of Never" in waiting(lab, "never")[1]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "web.tar")
        docker_archive(archive, "shop.example/web:1", [images.busybox()], Cmd=["sh", "-c", PAGE], WorkingDir="/srv")
        assert "image shop.example/web:1 loaded (id " in lab.ok("image", "load", str(archive))
        oci_layout(archive, "shop.example/other:1", [images.busybox()])
        lab.ok("image", "load", str(archive), "--name", "other")
    lab.ok("wait", "pod/web", "--for", "condition=Ready")
    address = lab.json("get", "pod", "web")["status"]["podIP"]
    assert lab.ok("exec", "node/node-1", "--", "busybox", "wget", "-qO-", f"http://{address}") == "from the image\n"
    # An ordinary user's lab has root alone.
    assert lab.ok("exec", "web", "--", "sh", "-c", "pwd; echo $HOME").split() == ["/srv", "/root"]
    assert lab.ok("exec", "web", "--", "ls", "/").split() == sorted(
        ["bin", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "var", "www"]
    )
    listed = lab.ok("image", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "docker.io/library/other:latest", "shop.example/web:1"]
    eventually(
        lambda: (
            ["shop.example/web:1"]
            in [each["names"] for each in lab.json("get", "node", "node-1")["status"].get("images", [])]
        )
    )
    assert "image shop.example/web:1 is in use" in lab.fails(4, "image", "rm", "shop.example/web:1")
    lab.ok("delete", "pod", "web", "never")
    lab.ok("image", "rm", "shop.example/web:1", "other")
    assert lab.ok("image", "list").split() == ["NAME", "ID", "SIZE"]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (2, ["load", "/nonexistent"], "/nonexistent: No such file or directory"),
        (2, ["load", "/etc/passwd"], "/etc/passwd: it is no archive of images"),
        (3, ["rm", "absent"], "there is no image 'absent'"),
        (2, ["rm", "No Name"], "is not the name of an image"),
        (2, ["pull", "No Name"], "is not the name of an image"),
    ],
)
def test_what_cannot_be_done_says_why(netlab: Netlab, status: int, arguments: list[str], message: str) -> None:
    assert message in netlab.fails(status, "image", *arguments)
