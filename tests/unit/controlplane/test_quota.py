"""What is used of a quota: tables of objects."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Pod, Service
from netlab.api.quota_types import ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus
from netlab.api.resources import PODS, SECRETS
from netlab.controlplane.quota import new_status, uses_less

_NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def _pod(cpu: str, phase: str = "Running", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
    return {"metadata": {}, "spec": {"containers": [container]} | spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("hard", "scopes", "before", "objects", "used"),
    [
        ({"pods": "3"}, [], {}, {PODS: []}, {"pods": "0"}),
        ({"pods": "3"}, [], {"pods": "3"}, {PODS: [_pod("1")]}, {"pods": "1"}),
        (
            {"pods": "3", "requests.cpu": "2", "count/pods": "9"},
            [],
            {},
            {PODS: [_pod("1"), _pod("300m"), _pod("1", "Failed")]},
            {"count/pods": "3", "pods": "2", "requests.cpu": "1300m"},
        ),
        (
            {"pods": "3"},
            ["Terminating"],
            {},
            {PODS: [_pod("1"), _pod("1", activeDeadlineSeconds=9)]},
            {"pods": "1"},
        ),
        # What is no longer limited is not told; what nobody here counts stays.
        (
            {"secrets": "1", "example.org/things": "7"},
            [],
            {"pods": "2", "example.org/things": "4"},
            {SECRETS: [{"metadata": {}}, {"metadata": {}}]},
            {"example.org/things": "4", "secrets": "2"},
        ),
    ],
)
def test_what_is_used(hard: Any, scopes: list[str], before: Any, objects: Any, used: Any) -> None:
    quota = ResourceQuota(
        spec=ResourceQuotaSpec(hard=hard, scopes=scopes), status=ResourceQuotaStatus(hard={"x": "1"}, used=before)
    )
    assert new_status(quota, objects, _NOW) == ResourceQuotaStatus(hard=hard, used=used)


@pytest.mark.parametrize(
    ("kind", "old", "new", "less"),
    [
        (Pod, _pod("1"), _pod("1"), False),
        (Pod, _pod("1"), _pod("1", "Succeeded"), True),
        (Pod, _pod("1", "Failed"), _pod("1", "Failed"), False),
        (Pod, _pod("1"), _pod("1", activeDeadlineSeconds=9), True),
        (Pod, _pod("1"), _pod("1", nodeName="n"), False),
        (Service, {"spec": {"type": "NodePort"}}, {"spec": {"type": "ClusterIP"}}, True),
        (Service, {"spec": {}}, {"spec": {}}, False),
    ],
)
def test_when_there_is_to_be_counted_again(kind: Any, old: Any, new: Any, less: bool) -> None:
    assert uses_less(msgspec.convert(old, kind), msgspec.convert(new, kind)) is less
