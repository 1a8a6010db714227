"""Variables for Services."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Service
from netlab.node.environment import of_services

_DB = {
    "DB_MAIN_SERVICE_HOST": "10.96.0.9",
    "DB_MAIN_SERVICE_PORT": "5432",
    "DB_MAIN_PORT": "tcp://10.96.0.9:5432",
    "DB_MAIN_PORT_5432_TCP": "tcp://10.96.0.9:5432",
    "DB_MAIN_PORT_5432_TCP_PROTO": "tcp",
    "DB_MAIN_PORT_5432_TCP_PORT": "5432",
    "DB_MAIN_PORT_5432_TCP_ADDR": "10.96.0.9",
}
_METRICS = {
    "DB_MAIN_SERVICE_PORT_METRICS_V1": "53",
    "DB_MAIN_PORT_53_UDP": "udp://10.96.0.9:53",
    "DB_MAIN_PORT_53_UDP_PROTO": "udp",
    "DB_MAIN_PORT_53_UDP_PORT": "53",
    "DB_MAIN_PORT_53_UDP_ADDR": "10.96.0.9",
}


def _service(**spec: Any) -> Service:
    return msgspec.convert({"metadata": {"name": "db-main"}, "spec": spec}, Service)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 5432}]}, _DB),
        (
            {
                "clusterIP": "10.96.0.9",
                "ports": [{"name": "sql", "port": 5432}, {"name": "metrics-v1", "port": 53, "protocol": "UDP"}],
            },
            _DB | {"DB_MAIN_SERVICE_PORT_SQL": "5432"} | _METRICS,
        ),
        ({"clusterIP": "None", "ports": [{"port": 80}]}, {}),
        ({"type": "ExternalName", "externalName": "example.org"}, {}),
    ],
    ids=["one port", "named ports", "headless", "ExternalName"],
)
def test_variables_of_a_service(spec: dict[str, Any], expected: dict[str, str]) -> None:
    assert of_services([_service(**spec)]) == expected


def test_an_ipv6_address_stands_in_brackets_where_a_port_follows() -> None:
    env = of_services([_service(clusterIP="fd00::9", ports=[{"port": 80}])])
    assert (env["DB_MAIN_SERVICE_HOST"], env["DB_MAIN_PORT"]) == ("fd00::9", "tcp://[fd00::9]:80")
