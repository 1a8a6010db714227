"""Service accounts' tokens: whose they are, how long, and for whom."""

from __future__ import annotations

import base64
import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import PODS, SERVICEACCOUNTS, Resource
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.tokens import ISSUER, LEEWAY, TokenError, Tokens
from netlab.api.server.admission import chain, serviceaccount
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.admission.chain import Chain
from netlab.api.server.identity import OWNER
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage.watch import Stored

ANY_PODS: Resource[Any] = PODS
ACCOUNTS: Resource[Any] = SERVICEACCOUNTS


@pytest.fixture
def tokens(registry: Registry, tmp_path: Path) -> Tokens:
    registry.create(ACCOUNTS, "default", {"metadata": {"name": "web"}})
    spec = {"containers": [{"name": "c", "image": "pause"}], "serviceAccountName": "web"}
    registry.create(ANY_PODS, "default", {"metadata": {"name": "p"}, "spec": spec})
    return Tokens(Authority(tmp_path / "pki"), registry.store)


def account(registry: Registry) -> Stored:
    return registry.get(ACCOUNTS, "default", "web")


def bound(registry: Registry) -> tuple[Resource[Any], Stored]:
    return ANY_PODS, registry.get(ANY_PODS, "default", "p")


def test_a_token_is_its_accounts(tokens: Tokens, registry: Registry) -> None:
    token, expires = tokens.sign(account(registry), (), 3600, bound(registry))
    user = tokens.user(token)
    assert user is not None
    assert user.name == "system:serviceaccount:default:web"
    assert user.uid == account(registry).uid
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert 3590 < expires.timestamp() - time.time() <= 3600


def test_its_claims_are_upstreams(tokens: Tokens, registry: Registry) -> None:
    token, _ = tokens.sign(account(registry), (), 3600, bound(registry))
    head, payload, _ = token.split(".")
    decode = [json.loads(base64.urlsafe_b64decode(each + "==")) for each in (head, payload)]
    assert decode[0]["alg"] == "ES256"
    claims = decode[1]
    assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == (ISSUER, [ISSUER], 3600)
    assert claims["sub"] == "system:serviceaccount:default:web"
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "serviceaccount": {"name": "web", "uid": account(registry).uid},
        "pod": {"name": "p", "uid": bound(registry)[1].uid},
    }


def test_a_cryptography_library_agrees(tokens: Tokens, registry: Registry, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((tmp_path / "pki" / "sa.key").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    token, _ = tokens.sign(account(registry), (), 3600, None)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.public_key().verify(der, signed.encode(), ECDSA(SHA256()))


@pytest.mark.parametrize(
    ("of", "asked", "common"),
    [
        ((), (), (ISSUER,)),
        (("vault",), ("vault",), ("vault",)),
        (("vault", ISSUER), (), (ISSUER,)),
        (("vault",), (), None),
        ((), ("vault",), None),
        (("a", "b"), ("b", "c"), ("b",)),
    ],
)
def test_audiences(
    tokens: Tokens, registry: Registry, of: tuple[str, ...], asked: tuple[str, ...], common: tuple[str, ...] | None
) -> None:
    token, _ = tokens.sign(account(registry), of, 3600, None)
    if common is None:
        with pytest.raises(TokenError, match="audiences"):
            tokens.verify(token, asked)
    else:
        assert tokens.verify(token, asked).audiences == common


def test_one_that_has_expired_is_nobodys(tokens: Tokens, registry: Registry) -> None:
    token, _ = tokens.sign(account(registry), (), -1, None)
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token, ())


def test_one_of_another_cluster_is_nobodys(tokens: Tokens, registry: Registry, tmp_path: Path) -> None:
    token, _ = Tokens(Authority(tmp_path / "other"), registry.store).sign(account(registry), (), 3600, None)
    with pytest.raises(TokenError, match="not signed by this cluster"):
        tokens.verify(token, ())


@pytest.mark.parametrize("what", ["pod", "account"])
def test_one_whose_owner_was_deleted_is_nobodys(tokens: Tokens, registry: Registry, what: str) -> None:
    token, _ = tokens.sign(account(registry), (), 3600, bound(registry))
    if what == "pod":
        registry.delete(ANY_PODS, "default", "p", DeleteOptions())
    else:
        registry.delete(ACCOUNTS, "default", "web", DeleteOptions())
        registry.create(ACCOUNTS, "default", {"metadata": {"name": "web"}})  # another of the same name
    with pytest.raises(TokenError, match="has been deleted"):
        tokens.verify(token, ())


def test_a_pod_that_is_being_deleted_has_its_token_for_a_while(
    tokens: Tokens, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.bind("default", "p", "node-1")
    token, _ = tokens.sign(account(registry), (), 36000, bound(registry))
    registry.delete(ANY_PODS, "default", "p", DeleteOptions(gracePeriodSeconds=30))
    assert tokens.user(token) is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 + LEEWAY + 2)
    with pytest.raises(TokenError, match="has been deleted"):
        tokens.verify(token, ())


def _changed(token: str, part: int, change: dict[str, Any]) -> str:
    parts = token.split(".")
    value = json.loads(base64.urlsafe_b64decode(parts[part] + "==")) | change
    parts[part] = base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    return ".".join(parts)


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: "",
        lambda token: "x",
        lambda token: "..",
        lambda token: "a.b.c",
        lambda token: "\xff.\xff.\xff",
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token[:-4],
        lambda token: _changed(token, 0, {"alg": "none"}),
        lambda token: _changed(token, 0, {"alg": "HS256"}),
        lambda token: _changed(token, 1, {"exp": 9999999999}),
        lambda token: _changed(token, 1, {"sub": "system:serviceaccount:kube-system:admin"}),
        lambda token: _changed(token, 1, {"exp": "soon"}),
    ],
)
def test_a_forged_one_is_nobodys(tokens: Tokens, registry: Registry, forge: Any) -> None:
    token, _ = tokens.sign(account(registry), (), 3600, None)
    assert tokens.user(token) is not None
    assert tokens.user(forge(token)) is None


# --- admission -----------------------------------------------------------------------------------------------------


def _admit(registry: Registry, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> None:
    pod = {"metadata": {"name": "p", "annotations": annotations or {}}, "spec": spec}
    attributes = Attributes(Operation.CREATE, ANY_PODS, "default", "p", OWNER, pod)
    serviceaccount.admit(attributes, registry.store)
    serviceaccount.validate(attributes, registry.store)


@pytest.mark.parametrize(
    ("of_account", "of_pod", "mounted"),
    [(None, None, True), (False, None, False), (False, True, True), (True, False, False), (None, False, False)],
)
def test_a_pod_gets_its_token_unless_it_or_its_account_wants_none(
    registry: Registry, of_account: bool | None, of_pod: bool | None, mounted: bool
) -> None:
    chosen = {} if of_account is None else {"automountServiceAccountToken": of_account}
    registry.create(ACCOUNTS, "default", {"metadata": {"name": "default"}, **chosen})
    spec: dict[str, Any] = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}
    if of_pod is not None:
        spec["automountServiceAccountToken"] = of_pod
    _admit(registry, spec)
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    mounts = [each.get("volumeMounts", []) for each in (*spec["containers"], *spec["initContainers"])]
    assert [[mount["mountPath"] for mount in each] for each in mounts] == [[serviceaccount.MOUNT_PATH] * mounted] * 2
    assert len(spec.get("volumes", [])) == mounted


def test_a_pod_whose_containers_are_patched_keeps_the_mounts_of_its_token(registry: Registry) -> None:
    registry.admission = Chain(chain.ALL, registry.store)
    sent = {"containers": [{"name": "c", "image": "pause"}], "initContainers": [{"name": "i", "image": "pause"}]}
    registry.create(ANY_PODS, "default", {"metadata": {"name": "p"}, "spec": dict(sent)})
    before = registry.get(ANY_PODS, "default", "p").decode()
    patched = before | {"spec": before["spec"] | {"containers": [{"name": "c", "image": "other"}]}}
    registry.update(ANY_PODS, "default", "p", patched)
    after = registry.get(ANY_PODS, "default", "p").decode()["spec"]
    (container,) = after["containers"]
    assert (container["image"], [mount["mountPath"] for mount in container["volumeMounts"]]) == (
        "other",
        [serviceaccount.MOUNT_PATH],
    )
    assert after["volumes"] == before["spec"]["volumes"]


def test_what_a_pod_mounts_there_itself_stays(registry: Registry) -> None:
    own = {"name": "own", "mountPath": serviceaccount.MOUNT_PATH}
    spec: dict[str, Any] = {"containers": [{"name": "c", "volumeMounts": [own]}]}
    _admit(registry, spec)
    assert spec["containers"][0]["volumeMounts"] == [own]
    assert "volumes" not in spec


def test_a_pod_of_an_account_that_is_not_there_is_refused(registry: Registry) -> None:
    with pytest.raises(ApiError) as refused:
        _admit(registry, {"serviceAccountName": "none", "containers": []})
    assert str(refused.value) == (
        'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found'
    )


def test_a_pod_gets_the_pull_secrets_of_its_account(registry: Registry) -> None:
    made = {"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]}
    registry.create(ACCOUNTS, "default", made)
    spec: dict[str, Any] = {"containers": [{"name": "c"}]}
    _admit(registry, spec)
    own: dict[str, Any] = {"containers": [{"name": "c"}], "imagePullSecrets": [{"name": "own"}]}
    _admit(registry, own)
    assert (spec["imagePullSecrets"], own["imagePullSecrets"]) == ([{"name": "pull"}], [{"name": "own"}])


_KEY = {"name": "V", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "other"}}]},
            'volume with secret.secretName="other" is not allowed because service account strict does not reference '
            "that secret",
        ),
        (
            {"containers": [{"name": "c", "env": [_KEY]}]},
            'container c with envVar V referencing secret.secretName="other" is not allowed because service account '
            "strict does not reference that secret",
        ),
        (
            {"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]},
            'init container i with envFrom referencing secret.secretName="other" is not allowed because service '
            "account strict does not reference that secret",
        ),
        (
            {"imagePullSecrets": [{"name": "other"}]},
            'imagePullSecrets[0].name="other" is not allowed because service account strict does not reference that '
            "imagePullSecret",
        ),
        ({"volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}, ""),
    ],
)
def test_an_account_may_list_the_only_secrets_of_its_pods(registry: Registry, spec: dict[str, Any], why: str) -> None:
    annotations = {"kubernetes.io/enforce-mountable-secrets": "true"}
    meta = {"name": "strict", "annotations": annotations}
    registry.create(ACCOUNTS, "default", {"metadata": meta, "secrets": [{"name": "mine"}]})
    asked = {"serviceAccountName": "strict"} | copy.deepcopy(spec)
    if not why:
        _admit(registry, asked)
        return
    with pytest.raises(ApiError) as refused:
        _admit(registry, asked)
    assert str(refused.value) == f'pods "p" is forbidden: {why}'


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"containers": [{"name": "c", "env": [_KEY]}]}, "a mirror pod may not reference secrets"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
def test_a_mirror_pod_reads_nothing_through_its_kubelet(registry: Registry, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError) as refused:
        _admit(registry, copy.deepcopy(spec), {"kubernetes.io/config.mirror": "hash"})
    assert str(refused.value) == f'pods "p" is forbidden: {why}'
