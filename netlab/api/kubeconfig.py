"""kubeconfig files (config.v1), and the files of a pod's service account: read into an `Endpoint`."""

from __future__ import annotations

import base64
import binascii
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from netlab.api.credentials import Credentials, File, Identity, Inline, Plugin, PluginConfig, Source, Stored
from netlab.api.endpoint import Endpoint, Trust, tls_context
from netlab.api.manifests import load_documents
from netlab.errors import UsageError
from netlab.net.addresses import host_port

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_CLUSTER_INFO = "client.authentication.k8s.io/exec"
"""The cluster extension meant for its credential plugin."""


# Every field may be null: in Go, which usually reads these files, that means absent.
class _Struct(msgspec.Struct, rename="kebab", kw_only=True):
    pass


class _Extension(_Struct):
    name: str
    extension: Any = None


class _Cluster(_Struct):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None
    extensions: list[_Extension] | None = None


class _Variable(_Struct):
    name: str
    value: str


class _Exec(msgspec.Struct, rename="camel", kw_only=True):
    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    command: str
    args: list[str] | None = None
    env: list[_Variable] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: Literal["Never", "IfAvailable", "Always"] | None = None


class _User(_Struct):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    exec: _Exec | None = None
    # Read only to refuse them by name: ignoring them would act as another user.
    username: Any = None
    auth_provider: Any = None
    impersonate: Any = msgspec.field(name="as", default=None)


class _Context(_Struct):
    cluster: str
    user: str | None = None


class _NamedCluster(_Struct):
    name: str
    cluster: _Cluster


class _NamedUser(_Struct):
    name: str
    user: _User | None = None


class _NamedContext(_Struct):
    name: str
    context: _Context


class _Config(_Struct):
    api_version: Literal["v1"] | None = msgspec.field(name="apiVersion", default=None)
    kind: Literal["Config"] | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


_REFUSED = {
    "username": "API servers no longer accept a username and password (Kubernetes 1.19); use a token",
    "auth_provider": "auth-provider was removed (Kubernetes 1.26); use exec",
    "impersonate": "impersonation (as) is not supported; use that user's own credentials",
}


def load(path: Path, context: str = "") -> Endpoint:
    """The server and the user that a kubeconfig names in a context (default: its current-context).

    Checks everything and reads every file once. Raises UsageError naming the file, the entry, the fault and the remedy,
    and never a secret.
    """
    documents = load_documents([path])
    if len(documents) != 1:
        raise UsageError(f"{path}: a kubeconfig is one YAML document, found {len(documents)}")
    try:
        config = msgspec.convert(documents[0], _Config)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: not a kubeconfig: {error}") from None
    name = context or config.current_context or ""
    if not name:
        known = ", ".join(each.name for each in config.contexts or [])
        raise UsageError(f"{path}: no current-context; choose one of its contexts ({known or 'it has none'})")
    chosen = _find(path, "context", config.contexts, name).context
    cluster = _find(path, "cluster", config.clusters, chosen.cluster).cluster
    where = f"{path}: cluster {chosen.cluster!r}"
    trust = _trust(where, path.parent, cluster)
    credentials: Credentials | None = None
    if chosen.user:
        user = _find(path, "user", config.users, chosen.user).user or _User()
        credentials = _credentials(f"{path}: user {chosen.user!r}", path.parent, chosen.user, user, cluster, trust)
    url = _url(where, cluster.server)
    try:
        tls_context(trust, credentials.read() if isinstance(credentials, Stored) else Identity())
    except UsageError as error:
        raise UsageError(f"{path}: context {name!r}: {error}") from None
    return Endpoint(url, trust=trust, credentials=credentials)


def in_cluster(environment: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT) -> Endpoint:
    """The API server of the cluster whose pod this process runs in, with the pod's service account.

    Raises UsageError outside a pod.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise UsageError("this is not a pod (KUBERNETES_SERVICE_HOST and _PORT are not set); use a kubeconfig")
    authority = File(account / "ca.crt", "the service account's authority")
    token = File(account / "token", "the service account's token")
    authority.read(), token.read()
    trust, credentials = Trust(authority), Stored(token=token)
    try:
        tls_context(trust, Identity())
    except UsageError as error:
        raise UsageError(f"{account}: {error}") from None
    return Endpoint(
        _url("KUBERNETES_SERVICE_HOST", f"https://{host_port(host, port)}"), trust=trust, credentials=credentials
    )


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def _find(path: Path, kind: str, entries: Sequence[N] | None, name: str) -> N:
    for entry in entries or []:
        if entry.name == name:
            return entry
    known = ", ".join(repr(entry.name) for entry in entries or []) or "none"
    raise UsageError(f"{path}: no {kind} {name!r}; it has: {known}")


def _url(where: str, server: str | None) -> str:
    example = "write it as https://HOST:PORT"
    if not server:
        raise UsageError(f"{where}: no server; {example}")
    try:
        parts = urlsplit(server)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{where}: the server is not a URL: {error}; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{where}: the server's URL must not contain a user name; {example}, and use a token")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{where}: the server {server!r} is not a server's URL; {example}")
    return server


def _trust(where: str, folder: Path, cluster: _Cluster) -> Trust:
    if cluster.proxy_url:
        raise UsageError(f"{where}: proxy-url is not supported; use a server that needs no proxy")
    authority = _source(
        where, folder, "certificate-authority", cluster.certificate_authority, cluster.certificate_authority_data
    )
    if authority is not None and cluster.insecure_skip_tls_verify:
        raise UsageError(f"{where}: both certificate-authority and insecure-skip-tls-verify are set; leave out one")
    return Trust(authority, not cluster.insecure_skip_tls_verify, cluster.tls_server_name or "")


def _credentials(where: str, folder: Path, name: str, user: _User, cluster: _Cluster, trust: Trust) -> Credentials:
    for field, refusal in _REFUSED.items():
        if getattr(user, field):
            raise UsageError(f"{where}: {refusal}")
    certificate = _source(where, folder, "client-certificate", user.client_certificate, user.client_certificate_data)
    key = _source(where, folder, "client-key", user.client_key, user.client_key_data)
    if (certificate is None) != (key is None):
        have, lack = ("client-certificate", "client-key") if certificate else ("client-key", "client-certificate")
        raise UsageError(f"{where}: has a {have} but no {lack}; both are needed")
    token: Source | None = Inline(user.token.encode()) if user.token else None
    if user.token_file:
        token = File(folder / user.token_file, f"{where}: tokenFile")
        token.read()
    if user.exec is None:
        return Stored(token=token, certificate=certificate, key=key)
    if token or certificate:
        raise UsageError(f"{where}: both exec and a token or certificate are set; leave out one")
    return _plugin(where, folder, name, user.exec, cluster, trust)


def _plugin(where: str, folder: Path, name: str, plugin: _Exec, cluster: _Cluster, trust: Trust) -> Plugin:
    if plugin.interactive_mode == "Always":
        raise UsageError(
            f"{where}: the plugin {plugin.command} needs a terminal (interactiveMode Always), and there is none"
        )
    # A path is relative to the kubeconfig's folder; a bare name is looked up on the PATH (client-go).
    command = str(folder / plugin.command) if "/" in plugin.command else plugin.command
    if shutil.which(command) is None:
        remedy = " ".join((plugin.install_hint or "install it").split())
        raise UsageError(f"{where}: the plugin {command} is not an executable program; {remedy}")
    return Plugin(
        PluginConfig(
            command=command,
            args=tuple(plugin.args or ()),
            env={variable.name: variable.value for variable in plugin.env or ()},
            api_version=plugin.api_version,
            cluster=_cluster_info(cluster, trust) if plugin.provide_cluster_info else None,
            user=name,
        )
    )


def _cluster_info(cluster: _Cluster, trust: Trust) -> dict[str, Any]:
    """client.authentication.k8s.io Cluster: as in the kubeconfig, but the authority always as data."""
    authority = base64.b64encode(trust.authority.read()).decode() if trust.authority else None
    config = next((each.extension for each in cluster.extensions or [] if each.name == _CLUSTER_INFO), None)
    told = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": authority,
        "config": config,
    }
    return {field: value for field, value in told.items() if value is not None}


def _source(where: str, folder: Path, field: str, path: str | None, data: str | None) -> Source | None:
    """The value of a field or of its -data twin; the twin takes precedence, as in client-go."""
    if data:
        try:
            return Inline(base64.b64decode("".join(data.split()), validate=True))
        except (binascii.Error, ValueError):
            raise UsageError(f"{where}: {field}-data is not base64; encode the PEM file with base64 -w0") from None
    if path:
        source = File(folder / path, f"{where}: {field}")
        source.read()
        return source
    return None
