"""What containerd does for a kubelet, call for call: its namespaces, CNI_ARGS and capabilities.

The structures are those of containerd's CRI server and of containerd/go-cni, which leave the spelling of JSON's keys
to Go's reader. (The lab's own kubelet drives the plugins in tests/system/node.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import find_network
from tests.system.cni import pods
from tests.system.runtimes import image, node
from tests.system.runtimes.machine import on_its_own_machine, run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not image.BUSYBOX.exists(), reason="it takes root and busybox-static"
)

_SANDBOX = "3a6a58386dfbf2471a6f86bd41e4e9a32aac54ccccd1943742cb67d1e9c58b5b"
_MAX_UINT32 = 0xFFFFFFFF


def sandbox(number: int) -> Attachment:
    """A pod's sandbox, published at port 8080 + its number, limited to 100 Mbit/s."""
    container_id = f"{number:x}{_SANDBOX[1:]}"
    capabilities: dict[str, Any] = {
        "portMappings": [{"HostPort": 8080 + number, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 10**8, "IngressBurst": _MAX_UINT32, "EgressRate": 10**8, "EgressBurst": 10**6},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["default.svc.cluster.local"], "Options": ["ndots:5"]},
        "io.kubernetes.cri.pod-annotations": {"kubernetes.io/ingress-bandwidth": "100M"},
    }
    args = {
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": f"web-{number}",
        "K8S_POD_INFRA_CONTAINER_ID": container_id,
        "K8S_POD_UID": "8304765e-fd7e-4968-9144-c42c53be04f4",
        "IgnoreUnknown": "1",
    }
    netns = f"/var/run/netns/cni-1d80f6e3-fdab-4505-eb83-7deb1743129{number}"
    return Attachment(container_id, netns, "eth0", args, capabilities)


@on_its_own_machine
def test_sandboxes_come_and_go_as_with_containerd() -> None:
    node.install_plugins()
    runtime, network = Runtime([node.BIN_DIR], Path("/var/lib/cni")), find_network(node.CONF_DIR, node.NETWORK)
    runtime.status(network)
    attachments = [sandbox(0), sandbox(1)]
    for attachment in attachments:
        run("ip", "netns", "add", Path(attachment.netns).name)
    with node.outside() as world:
        results = [runtime.add(network, attachment) for attachment in attachments]
        for attachment, result in zip(attachments, results, strict=True):
            assert result["dns"] == {"nameservers": ["10.96.0.10"], "search": ["default.svc.cluster.local"]}
            (interface,) = [item for item in result["interfaces"] if item.get("sandbox")]
            assert (interface["name"], interface["sandbox"]) == ("eth0", attachment.netns)
            runtime.check(network, attachment)
            page = Path("/run/www")
            page.mkdir(exist_ok=True)
            (page / "index.html").write_text(image.PAGE)
            with pods.inside(attachment.netns):
                node.started(image.BUSYBOX, "httpd", "-f", "-p", "80", "-h", page)
            for ip in result["ips"]:
                node.until_served(ip["address"].split("/")[0])
        for number in range(2):
            for address in (node.NODE, node.NODE6):
                assert node.fetch(world, address, 8080 + number) == image.PAGE
        source, target = results
        address = target["ips"][0]["address"].split("/")[0]
        assert pods.reaches(attachments[0].netns, attachments[1].netns, address) in source["ips"][0]["address"]
        assert node.busy()
        # The kubelet stops a sandbox as often as it likes, also when its namespace has gone.
        runtime.delete(network, attachments[0])
        run("ip", "netns", "delete", Path(attachments[0].netns).name)
        for gone in (attachments[0], Attachment(attachments[0].container_id, "", "eth0", attachments[0].args)):
            runtime.delete(network, gone)
        assert node.fetch(world, node.NODE, 8081) == image.PAGE
        runtime.delete(network, Attachment(attachments[1].container_id, ""))
    assert node.clean(), node.remains()
