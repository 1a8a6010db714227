"""Variables that are taken from ConfigMaps and Secrets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Container, Pod, PodSpec
from netlab.api.meta_types import ObjectMeta
from netlab.errors import UsageError
from netlab.node.environment import environment

_CONFIGURED = {
    ("ConfigMap", "c"): {"a": b"1", "b.c": b"2", "x=y": b"3"},
    ("Secret", "s"): {"a": b"hidden", "raw": b"\xff"},
    ("ConfigMap", "none"): None,
    ("Secret", "none"): None,
}


def _environment(**container: Any) -> dict[str, str]:
    made = msgspec.convert({"name": "x"} | container, Container)
    pod = Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=PodSpec(containers=[made]))
    return environment(pod, made, [], [], configured=_CONFIGURED, allocatable={"cpu": "4"})


def _key(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key} | more}}


@pytest.mark.parametrize(
    ("env_from", "env", "expected"),
    [
        ([{"configMapRef": {"name": "c"}}], [], {"a": "1", "b.c": "2"}),
        ([{"prefix": "P_", "configMapRef": {"name": "c"}}], [], {"P_a": "1", "P_b.c": "2"}),
        (
            [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
            [],
            {"a": "hidden", "b.c": "2", "raw": "\udcff"},
        ),
        ([{"configMapRef": {"name": "none", "optional": True}}], [], {}),
        ([{"configMapRef": {"name": "c"}}], [{"name": "d", "value": "$(a)$(b.c)"}], {"a": "1", "b.c": "2", "d": "12"}),
        ([{"configMapRef": {"name": "c"}}], [{"name": "a", "value": "9"}], {"a": "9", "b.c": "2"}),
        ([], [_key("configMap", "c", "a")], {"V": "1"}),
        ([], [_key("secret", "s", "a")], {"V": "hidden"}),
        ([], [_key("configMap", "c", "z", optional=True)], {}),
        ([], [_key("secret", "none", "z", optional=True)], {}),
        ([], [{"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}], {"V": "4"}),
    ],
)
def test_variables(env_from: list[Any], env: list[Any], expected: dict[str, str]) -> None:
    assert _environment(envFrom=env_from, env=env) == expected


@pytest.mark.parametrize(
    ("container", "complaint"),
    [
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, 'configmap "none" not found'),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "none" not found'),
        ({"env": [_key("configMap", "none", "a")]}, 'configmap "none" not found'),
        ({"env": [_key("secret", "s", "z")]}, "couldn't find key z in Secret default/s"),
    ],
)
def test_what_has_to_be_there(container: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        _environment(**container)
    assert complaint in str(refused.value)
