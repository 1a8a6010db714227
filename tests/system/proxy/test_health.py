"""What a proxy answers about itself and about Services, by HTTP, in a network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api.core_types import Node, NodeAddress, NodeSpec, NodeStatus, Taint
from netlab.api.meta_types import ObjectMeta
from netlab.proxy.config import Listen, ProxyConfig
from netlab.proxy.configfile import document
from netlab.proxy.health import (
    TO_BE_DELETED,
    Health,
    ServiceHealth,
    health_handler,
    keep_serving,
    metrics_handler,
)
from netlab.proxy.httpd import Handler, serving
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import HealthCheck
from netlab.proxy.sync import Proxy
from tests.sandbox import isolated
from tests.system.proxy.hosts import run_ip
from tests.unit.proxy.flows import DRAINING, NODE, READY, VARIANTS, service_of, slices_of

ADDRESSES = "link set lo up\naddr add 192.0.2.1/24 dev lo\naddr add 2001:db8::1/64 dev lo nodad\n"


class Answer:
    """An HTTP response."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


async def get(host: str, port: int, path: str = "/", method: str = "GET") -> Answer:
    """Ask; an address that does not listen, or that hangs up, raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    if not raw:
        raise ConnectionResetError("closed without an answer")
    return Answer(raw)


async def refused(host: str, port: int) -> bool:
    try:
        await get(host, port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


async def eventually(ask: Callable[[], Awaitable[Answer]], good: Callable[[Answer], bool] = lambda _: True) -> Answer:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                answer = await ask()
                if good(answer):
                    return answer
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def kept_serving(listen: Listen, handler: Handler) -> AsyncIterator[None]:
    serving = asyncio.create_task(keep_serving(listen, handler, "a test's server"))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def ask_about_the_proxy() -> None:
    now = [1_000_000.0]
    health, metrics = Health(60, lambda: now[0]), Metrics("nftables")
    health.follow("IPv4")
    moment = "1970-01-12T13:46:40.000000Z"
    state = {"lastUpdated": moment, "currentTime": moment, "healthy": True}
    async with kept_serving(Listen("0.0.0.0", 10256), health_handler(health, metrics)):
        for host in ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"):
            answer = await eventually(lambda host=host: get(host, 10256, "/healthz"))  # type: ignore[misc]
            assert answer.status == 200
            assert answer.json() == {
                **state,
                "status": {"IPv4": state},
                "nodeEligible": True,
            }
            assert answer.headers["content-type"].startswith("application/json")
            assert answer.headers["x-content-type-options"] == "nosniff"

        health.node(Node(spec=NodeSpec(taints=[Taint(key=TO_BE_DELETED, effect="NoSchedule")])))
        assert (await get("::1", 10256, "/healthz")).status == 503
        assert (await get("::1", 10256, "/livez")).status == 200
        assert "nodeEligible" not in (await get("::1", 10256, "/livez")).json()
        health.node(Node())

        health.queued("IPv4")
        now[0] += 60
        assert (await get("::1", 10256, "/healthz")).status == 503
        assert (await get("::1", 10256, "/livez")).status == 503
        health.updated("IPv4")
        assert (await get("::1", 10256, "/livez")).status == 200
        assert (await get("::1", 10256, "/elsewhere")).status == 404
        assert (await get("::1", 10256, "/healthz", "POST")).status == 405
        assert (await get("::1", 10256, "/" + 9000 * "x")).status == 400
        assert (await get("::1", 10256, "/healthz", "HEAD")).body == b""

    async with kept_serving(Listen("127.0.0.1", 10249), metrics_handler(metrics, ProxyConfig(NODE))):
        answer = await eventually(lambda: get("127.0.0.1", 10249, "/metrics"))
        assert b'kubeproxy_proxy_healthz_total{code="503"} 2.0' in answer.body
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await get("127.0.0.1", 10249, "/proxyMode")).body == b"nftables"
        configured = (await get("127.0.0.1", 10249, "/configz")).json()
        assert configured == {"kubeproxy.config.k8s.io": document(ProxyConfig(NODE))}
        with pytest.raises(OSError):  # noqa: PT011  # the address is refused
            await get("192.0.2.1", 10249, "/metrics")


@isolated
def test_a_proxy_tells_of_itself() -> None:
    run_ip(ADDRESSES)
    asyncio.run(ask_about_the_proxy())


async def bind_late(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("netlab.proxy.health._RETRY_SECONDS", 0.05)
    listen = Listen("203.0.113.7", 10249)
    async with kept_serving(listen, metrics_handler(Metrics("iptables"), ProxyConfig(NODE, mode="iptables"))):
        async with asyncio.timeout(30):
            while "cannot serve" not in caplog.text:
                await asyncio.sleep(0.01)
        run_ip("addr add 203.0.113.7/32 dev lo\n")
        answer = await eventually(lambda: get(*listen, "/proxyMode"))
        assert answer.body == b"iptables"


@isolated
def test_an_address_that_is_not_there_yet_is_served_once_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_ip(ADDRESSES)
    asyncio.run(bind_late(monkeypatch, caplog))


async def check_services() -> None:
    failed: list[tuple[str, int, str]] = []
    health = Health(60, lambda: 0.0)
    servers = ServiceHealth(
        health, ["192.0.2.0/24"], lambda check, why: failed.append((check.service, check.port, why))
    )
    web, other = HealthCheck("shop/web", 32000, 2), HealthCheck("shop/other", 32001, 0)
    with socket.create_server(("192.0.2.1", 32001)):
        servers.sync({"shop/web": web, "shop/other": other})
        servers.sync({"shop/web": web, "shop/other": other})
        assert failed == [("shop/other", 32001, "Address already in use")], "it is told once, and the others go on"

        answer = await get("192.0.2.1", 32000)
        assert answer.status == 200
        assert answer.headers["x-load-balancing-endpoint-weight"] == "2"
        assert answer.json() == {
            "service": {"namespace": "shop", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        assert (await get("2001:db8::1", 32000)).status == 200, "no network of its family is named: all serve"
        with pytest.raises(OSError):  # noqa: PT011  # it is reset
            await get("127.0.0.1", 32000)

    # Its port is free again; the first one's endpoints go.
    servers.sync({"shop/web": web._replace(local_endpoints=0), "shop/other": other._replace(local_endpoints=1)})
    answer = await get("192.0.2.1", 32000)
    assert (answer.status, answer.headers["x-load-balancing-endpoint-weight"]) == (503, "0")
    assert (await get("192.0.2.1", 32001)).status == 200
    health.queued("IPv4")
    health._clock = lambda: 60.0
    answer = await get("192.0.2.1", 32001)
    assert (answer.status, answer.json()["serviceProxyHealthy"]) == (503, False)

    # Another port, then none.
    servers.sync({"shop/other": other._replace(port=32002)})
    for port in (32000, 32001):
        with pytest.raises(ConnectionRefusedError):
            await get("192.0.2.1", port)
    assert (await get("192.0.2.1", 32002)).status == 503
    servers.close()
    with pytest.raises(ConnectionRefusedError):
        await get("192.0.2.1", 32002)


async def close_in_the_middle() -> None:
    servers = ServiceHealth(Health(60), ())
    for steps in range(30):
        servers.sync({"shop/web": HealthCheck("shop/web", 32000, 1)})
        asking = [asyncio.create_task(get("127.0.0.1", 32000)) for _ in range(3)]
        for _ in range(steps % 10):
            await asyncio.sleep(0)
        servers.close()
        for answer in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(answer, Answer) or (isinstance(answer, OSError) and not isinstance(answer, TimeoutError))


async def send_anything(sent: list[bytes]) -> list[bytes]:
    """Each to a connection of its own, at a server of the proxy's; what it answers, until it hangs up."""
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    async def answer_to(text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", 10249)
        with contextlib.suppress(ConnectionError):
            writer.write(text)
            writer.write_eof()
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(reader.read(), 30)
        return b""

    with serving(Listen("127.0.0.1", 10249), health_handler(Health(60), Metrics("nftables"))):
        answers = await asyncio.gather(*map(answer_to, sent))
        assert (await get("127.0.0.1", 10249, "/livez")).status == 200
    gc.collect()  # a task that failed says so when it is collected
    assert problems == []
    return answers


_TARGETS = st.binary(max_size=20) | st.sampled_from(
    [b"/healthz", b"/livez?x", b"//", b"/%00", b"*", b"http://x/", b"/" * 9000]
)
_HEADS = st.builds(
    lambda method, target, version, fields: method + b" " + target + b" " + version + b"\r\n" + fields + b"\r\n\r\n",
    st.sampled_from([b"GET", b"HEAD", b"POST", b"", b"get"]) | st.binary(max_size=4),
    _TARGETS,
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b""]) | st.binary(max_size=8),
    st.binary(max_size=40) | st.just(b"a: b\r\n" * 2000),
)


@isolated
def test_whatever_is_asked_of_a_proxy_has_an_answer_of_http_or_none() -> None:
    run_ip(ADDRESSES)

    @settings(max_examples=20)
    @given(st.lists(_HEADS | st.binary(max_size=60), min_size=1, max_size=4))
    def ask(sent: list[bytes]) -> None:
        for answer in asyncio.run(send_anything(sent)):
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert Answer(answer).status in (200, 400, 404, 405, 503) if answer else True

    ask()


@isolated
def test_nobody_waits_for_a_server_that_was_closed() -> None:
    run_ip(ADDRESSES)
    asyncio.run(close_in_the_middle())


@isolated
def test_health_check_node_ports_come_change_and_go_with_their_services() -> None:
    run_ip(ADDRESSES)
    asyncio.run(check_services())


async def follow_a_service() -> None:
    config = ProxyConfig(NODE, families=["IPv4", "IPv6"], node_port_addresses=("primary",), min_sync_seconds=0.01)
    proxy = Proxy(config)
    serving = asyncio.create_task(proxy.serve(lambda: None))
    service = service_of(VARIANTS["cluster"])
    service.spec.type, service.spec.externalTrafficPolicy = "LoadBalancer", "Local"
    service.spec.healthCheckNodePort = 32000
    proxy.service_changed(None, service)
    slices = slices_of("cluster", {"a": READY})
    for each in slices:
        proxy.slice_changed(None, each)
    async with asyncio.timeout(30):
        while b"sync_proxy_rules_endpoint_changes_pending 0.0" not in proxy.metrics.render():
            await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await get("192.0.2.1", 32000)

    # Which addresses serve NodePorts is known from the Node alone.
    address = NodeAddress(type="InternalIP", address="192.0.2.1")
    proxy.node_changed(None, Node(metadata=ObjectMeta(name=NODE), status=NodeStatus(addresses=[address])))
    answer = await eventually(lambda: get("192.0.2.1", 32000))
    assert (answer.status, answer.json()["localEndpoints"]) == (200, 1)
    with pytest.raises(OSError):  # noqa: PT011  # it is reset
        await get("127.0.0.1", 32000)
    with pytest.raises(OSError):  # noqa: PT011  # the Node has no IPv6 address
        await get("2001:db8::1", 32000)

    # Terminating endpoints are served, but do not count.
    gone = slices_of("cluster", {"a": DRAINING})
    for old, new in zip(slices, gone, strict=True):
        proxy.slice_changed(old, new)
    await eventually(lambda: get("192.0.2.1", 32000), lambda answer: answer.status == 503)

    proxy.service_changed(service, None)
    async with asyncio.timeout(30):
        while not await refused("192.0.2.1", 32000):
            await asyncio.sleep(0.02)
    assert proxy.health.is_healthy()
    assert b"kubeproxy_sync_proxy_rules_service_changes_total 2.0" in proxy.metrics.render()
    assert b"kubeproxy_sync_proxy_rules_service_changes_pending 0.0" in proxy.metrics.render()
    serving.cancel()
    await asyncio.wait([serving])


@isolated
def test_a_service_is_checked_once_the_node_is_known() -> None:
    run_ip(ADDRESSES)
    asyncio.run(follow_a_service())
