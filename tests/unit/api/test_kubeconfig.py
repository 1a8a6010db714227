"""What is wrong with a kubeconfig is said in one line, and no secret is in it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api import kubeconfig
from netlab.errors import UsageError

SECRET = "c2VjcmV0LXRva2Vu"
CLUSTER: dict[str, Any] = {"server": "https://192.0.2.1:6443"}
V1 = "client.authentication.k8s.io/v1"
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBcDCCARWgAwIBAgIUX+zp4N9ucOUW8Cdsh4D55NJSMLUwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwHhcNMjYxMTIzMTYzNjU4WhcNMjYxMTI1MTYzNjU4WjAN
MQswCQYDVQQDDAJjYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABACfebXaA9eC
bqTZPOojmfGT7s+am/odAMIeBGqxEGMFzPbNWrrT5kiL3Gi5nXatLWHejtf3/7h2
eFWrl0jomEajUzBRMB0GA1UdDgQWBBT7OPXQ2zDK0yfCBm7TxecrHkH3SDAfBgNV
HSMEGDAWgBT7OPXQ2zDK0yfCBm7TxecrHkH3SDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0kAMEYCIQCqtbxaHY/YLv1LfQ/K9c4Cjpsdw8vR6+4+Xyy+qJ3b
GAIhANo9iiIv6jBANyzioqm7ffL1er7e3e5Pg2+fq4bgrRDy
-----END CERTIFICATE-----
"""  # of nobody: the key was thrown away
PEM = base64.b64encode(b"no certificate").decode()


def text(cluster: Any = CLUSTER, user: Any = None, **changes: Any) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "y", "context": {"cluster": "z"}},
        ],
        "current-context": "x",
        "preferences": {},
    }
    return msgspec.json.encode(config | changes).decode()


def plugin(**changes: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": V1, "command": "./no-plugin", "interactiveMode": "Never"} | changes}


CASES = {
    "not YAML": ("clusters: [", "config:2: did not find"),
    "a key twice": ("kind: Config\nkind: Config\n", "key 'kind' stands twice"),
    "two documents": ("a: 1\n---\na: 2\n", "a kubeconfig is one YAML document, found 2"),
    "another kind": (text(kind="Pod"), "not a kubeconfig: Invalid enum value 'Pod' - at `$.kind`"),
    "another type": (text({"server": 1}), "Expected `str | null`, got `int` - at `$.clusters[0].cluster.server`"),
    "no context": (text(**{"current-context": ""}), "no current-context; choose one of its contexts (x, y)"),
    "empty": (
        text(clusters=None, users=None, contexts=None, **{"current-context": None}),
        "no current-context; choose one of its contexts (it has none)",
    ),
    "an unknown context": (text(**{"current-context": "w"}), "no context 'w'; it has: 'x', 'y'"),
    "an unknown cluster": (text(**{"current-context": "y"}), "no cluster 'z'; it has: 'c'"),
    "an unknown user": (text(users=[]), "no user 'u'; it has: none"),
    "no server": (text({}), "cluster 'c': no server; write it as https://HOST:PORT"),
    "no scheme": (text({"server": "192.0.2.1:6443"}), "'192.0.2.1:6443' is not a server's URL"),
    "another scheme": (text({"server": "ftp://192.0.2.1"}), "'ftp://192.0.2.1' is not a server's URL"),
    "a bad port": (text({"server": "https://192.0.2.1:x"}), "the server is not a URL: Port"),
    "a user in the URL": (text({"server": f"https://u:{SECRET}@192.0.2.1"}), "must not contain a user name"),
    "a proxy": (text(CLUSTER | {"proxy-url": f"http://u:{SECRET}@p"}), "proxy-url is not supported"),
    "an authority that is not there": (
        text(CLUSTER | {"certificate-authority": "ca.crt"}),
        "certificate-authority: {folder}/ca.crt cannot be read: No such file",
    ),
    "an authority that is none": (
        text(CLUSTER | {"certificate-authority-data": PEM}),
        "context 'x': the certificate-authority is not a certificate in PEM form",
    ),
    "an authority that is empty": (
        text(CLUSTER | {"certificate-authority-data": base64.b64encode(b" \n").decode()}),
        "the certificate-authority is not a certificate",
    ),
    "trust and no trust": (
        text(CLUSTER | {"certificate-authority-data": PEM, "insecure-skip-tls-verify": True}),
        "leave out one",
    ),
    "not base64": (text(user={"client-key-data": f"!{SECRET}"}), "client-key-data is not base64"),
    "a certificate without a key": (
        text(user={"client-certificate-data": PEM}),
        "client-certificate but no client-key",
    ),
    "a key without a certificate": (text(user={"client-key-data": PEM}), "client-key but no client-certificate"),
    "a certificate that is none": (
        text(user={"client-certificate-data": PEM, "client-key-data": PEM}),
        "cannot use the client-certificate and client-key",
    ),
    "a token file that is not there": (text(user={"tokenFile": "t"}), "tokenFile: {folder}/t cannot be read"),
    "a password": (text(user={"username": "u", "password": SECRET}), "use a token"),
    "an old plugin": (text(user={"auth-provider": {"name": "oidc", "config": {"id-token": SECRET}}}), "use exec"),
    "somebody else": (text(user={"token": SECRET, "as": "root"}), "impersonation (as) is not supported"),
    "a plugin beside a token": (
        text(user={"token": SECRET, **plugin()}),
        "both exec and a token or certificate are set",
    ),
    "a plugin of another version": (
        text(user=plugin(apiVersion="client.authentication.k8s.io/v1alpha1")),
        "Invalid enum value 'client.authentication.k8s.io/v1alpha1' - at `$.users[0].user.exec.apiVersion`",
    ),
    "a plugin that asks": (text(user=plugin(interactiveMode="Always")), "needs a terminal"),
    "a plugin that is not there": (
        text(user=plugin(installHint="Get it\nfrom the shop.")),
        "the plugin {folder}/no-plugin is not an executable program; Get it from the shop.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str) -> None:
    config, expected = CASES[name]
    path = tmp_path / "config"
    path.write_text(config)
    with pytest.raises(UsageError) as refused:
        kubeconfig.load(path)
    message = str(refused.value)
    assert expected.format(folder=tmp_path) in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert SECRET not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: No such file"):
        kubeconfig.load(tmp_path / "nowhere")


def test_a_context_may_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "config"
    contexts = [{"name": name, "context": {"cluster": name}} for name in ("a", "b")]
    clusters = [{"name": name, "cluster": {"server": f"https://{name}.test/k8s/"}} for name in ("a", "b")]
    path.write_text(text(contexts=contexts, clusters=clusters, **{"current-context": "a"}))
    assert str(kubeconfig.load(path)) == "https://a.test/k8s"
    assert str(kubeconfig.load(path, "b")) == "https://b.test/k8s"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "this is not a pod"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "this is not a pod"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}, "ca.crt cannot be read"),
    ],
)
def test_outside_a_pod(tmp_path: Path, environment: dict[str, str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        kubeconfig.in_cluster(environment, tmp_path)


@pytest.mark.parametrize(
    ("host", "url"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_in_a_pod(tmp_path: Path, host: str, url: str) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    (tmp_path / "token").write_text("x")
    (tmp_path / "ca.crt").write_text("x")
    with pytest.raises(UsageError, match="the certificate-authority is not a certificate"):
        kubeconfig.in_cluster(environment, tmp_path)
    (tmp_path / "ca.crt").write_text(AUTHORITY)
    assert str(kubeconfig.in_cluster(environment, tmp_path)) == url
