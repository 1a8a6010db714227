"""A real HAProxy in a network of its own: what it answers to whom, and that nothing is lost while it changes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given

from netlab.api.networking_types import Ingress
from netlab.ingress.endpoints import Endpoint
from netlab.ingress.haproxy import config, slots
from netlab.ingress.haproxy.config import Settings
from netlab.ingress.haproxy.process import SOCKET, HaproxyError
from netlab.ingress.haproxy.server import Server
from netlab.ingress.model import EVERY_PATH, Host, Rule, ServicePort, Table
from netlab.ingress.rules import plan
from netlab.machine.host import bring_up_loopback
from tests.sandbox import isolated
from tests.unit.ingress.objects import answer_of, ingress, objects, pair, rule, secret, service
from tests.unit.ingress.test_config import INGRESSES, REQUESTS, SERVICES

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/bin") is None, reason="haproxy is not installed"
)

WEB = ServicePort("default", "web", 80)


def served(test: Callable[[Server, Path], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test with an HAProxy in a network of its own."""

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
            server = Server(Path(directory), Settings(f"{directory}/{SOCKET}"))
            try:
                await test(server, Path(directory))
            finally:
                await server.stop(0)

    @isolated
    def call() -> None:
        bring_up_loopback()
        asyncio.run(run())

    call.__name__ = test.__name__
    return call


@contextlib.asynccontextmanager
async def backends(names: Iterable[str], *, delay: float = 0.0) -> AsyncIterator[dict[str, Endpoint]]:
    """Servers of HTTP that say their names, after some seconds, and what they are asked; where each is."""
    found, servers = {}, []
    for name in names:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while request := await reader.readuntil(b"\r\n\r\n"):
                    await asyncio.sleep(delay)
                    body = name.encode() + b"\n" + request
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        servers.append(server)
        found[name] = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    yield found
    for server in servers:
        server.close()


async def asked(host: str, path: str, *lines: str, tls: ssl.SSLContext | None = None) -> tuple[int, list[str]]:
    """The status, and the lines of the body."""
    options: dict[str, Any] = {"ssl": tls, "server_hostname": host} if tls else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", 443 if tls else 80, **options)
    headers = "".join(f"{line}\r\n" for line in (f"Host: {host}", "Connection: close", *lines))
    writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode().splitlines()


def table_of(*ports: ServicePort) -> Table:
    return Table(tuple(Rule(Host(), EVERY_PATH, port) for port in ports))


@isolated
def test_haproxy_takes_every_table() -> None:
    haproxy = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/bin")
    assert haproxy

    @given(INGRESSES)
    @hypothesis.settings(max_examples=15)
    def check(ingresses: list[Ingress]) -> None:
        tls = [{"secretName": "s"}, {"secretName": "s", "hosts": ["*.a.test", "xn--4ca.test"]}]
        ingresses[0].spec.tls = ingress("t", tls=tls).spec.tls
        secrets = [secret("s", *pair("a.test"))]
        table = plan(objects(*ingresses, services=map(service, SERVICES), secrets=secrets)).table
        servers = {port: slots.fresh({Endpoint("10.0.0.1", 80)}) for port in config.destinations(table)}

        async def run(directory: str) -> None:
            for name, text in config.files(table, servers, Settings("/x"), 1).items():
                (Path(directory) / name).write_text(text)
            process = await asyncio.create_subprocess_exec(
                haproxy, "-c", "-f", f"{directory}/{config.CONFIG}", stderr=asyncio.subprocess.PIPE
            )
            said = (await process.communicate())[1].decode()
            assert process.returncode == 0, said
            assert "WARNING" not in said, said

        with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
            asyncio.run(run(directory))

    check()


def test_it_answers_as_the_api_says() -> None:
    @isolated
    def run() -> None:
        bring_up_loopback()

        @given(INGRESSES, REQUESTS)
        @hypothesis.settings(max_examples=8)
        def check(ingresses: list[Ingress], requests: list[tuple[str, str]]) -> None:
            asyncio.run(compare(ingresses, requests))

        check()

    async def compare(ingresses: list[Ingress], requests: list[tuple[str, str]]) -> None:
        with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
            server = Server(Path(directory), Settings(f"{directory}/{SOCKET}"))
            table = plan(objects(*ingresses, services=map(service, SERVICES))).table
            try:
                async with backends(SERVICES) as where:
                    found = {port: frozenset({where[port.service]}) for port in config.destinations(table)}
                    await server.serve(table, found)
                    for host, path in requests:
                        status, lines = await asked(f"{host.upper()}:80", path)
                        wanted = answer_of(ingresses, host, path)
                        assert (status, lines[0] if wanted else "") == ((200, wanted) if wanted else (404, "")), path
            finally:
                await server.stop(0)

    run()


@served
async def test_headers_say_who_asked_and_a_client_cannot(server: Server, directory: Path) -> None:
    async with backends(["web"]) as where:
        await server.serve(table_of(WEB), {WEB: frozenset(where.values())})
        forged = [
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-For: 7.7.7.7",
            "X-Forwarded-Proto: https",
            "Forwarded: for=6.6.6.6",
        ]
        status, lines = await asked("a.test", "/x?y=1", *forged, "X-Real-IP: 6.6.6.6")
        assert (status, lines[:2]) == (200, ["web", "GET /x?y=1 HTTP/1.1"])
        headers = sorted(line.lower() for line in lines[2:] if "forward" in line.lower() or "real" in line.lower())
        assert headers == [
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: a.test",
            "x-forwarded-port: 80",
            "x-forwarded-proto: http",
            "x-real-ip: 127.0.0.1",
        ]


@served
async def test_the_name_that_a_client_asks_for_chooses_the_certificate(server: Server, directory: Path) -> None:
    pairs = {"one": pair("a.test"), "two": pair("*.b.test")}
    one = ingress(
        "i",
        rules=[rule("", ("Prefix", "/", "web"))],
        tls=[{"secretName": "one"}, {"secretName": "two", "hosts": ["*.b.test"]}],
    )
    secrets = [secret(name, *each) for name, each in pairs.items()]
    table = plan(objects(one, services=[service("web")], secrets=secrets)).table
    async with backends(["web"]) as where:
        await server.serve(table, {WEB: frozenset(where.values())})
        for host, name in (("a.test", "one"), ("x.b.test", "two")):
            trust = ssl.create_default_context(cadata=pairs[name][0])
            status, lines = await asked(host, "/", tls=trust)
            assert (status, lines[0]) == (200, "web")
            assert "x-forwarded-proto: https" in [line.lower() for line in lines]
        for host in ("b.test", "c.test"):
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                await asked(host, "/", tls=ssl.create_default_context())
        renewed = objects(one, services=[service("web")], secrets=[secret("one", *pair("a.test", "new.test"))])
        await server.serve(plan(renewed).table, {WEB: frozenset(where.values())})
        trust = ssl.create_default_context(cadata=pair("a.test", "new.test")[0])
        assert (await asked("a.test", "/", tls=trust))[0] == 200


@served
async def test_requests_go_on_while_endpoints_and_routes_change(server: Server, directory: Path) -> None:
    """Many clients, some with a connection for each request and some with one for all; not one answer is missing."""
    names = ["a", "b", "c", "d"]
    async with backends(names, delay=0.002) as where:
        await server.serve(table_of(WEB), {WEB: frozenset({where["a"]})})
        over, answers = asyncio.Event(), [list[str]() for _ in range(6)]

        async def fresh_connections(mine: list[str]) -> None:
            while not over.is_set():
                status, lines = await asked("a.test", "/")
                assert status == 200, lines
                mine.append(lines[0])

        async def one_connection(mine: list[str]) -> None:
            writer = None
            while not over.is_set():
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", 80)
                writer.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                assert head.startswith("http/1.1 200"), head
                length = next(line.split()[1] for line in head.splitlines() if line.startswith("content-length"))
                mine.append((await reader.readexactly(int(length))).decode().partition("\n")[0])
                # A worker that is on its way out says so with its last answer.
                if "connection: close" in head:
                    writer.close()
                    writer = None
                    await asyncio.sleep(0)

        async def change() -> None:
            for step in range(12):
                name = names[step % 4]
                await server.serve(table_of(WEB), {WEB: frozenset({where[name]})})
                reloads = server.reloads
                seen = [len(each) for each in answers]
                await until(lambda seen=seen: all(len(a) > s + 3 for a, s in zip(answers, seen, strict=True)))  # type: ignore[misc]
                # One was under way, and one may be the last of a worker that has gone, which knows no new endpoints.
                late = {said for a, s in zip(answers, seen, strict=True) for said in a[s + 2 :]}
                assert late == {name}, "an endpoint that is gone gets requests"
                if step % 4 == 3:
                    other = ServicePort("default", f"other-{step}", 80)
                    empty: dict[ServicePort, frozenset[Endpoint]] = {WEB: frozenset({where[name]}), other: frozenset()}
                    wider = Table((*table_of(WEB).rules, Rule(Host(), EVERY_PATH, other, is_fallback=True)))
                    await server.serve(wider, empty)
                    await server.serve(table_of(WEB), empty)
                    assert server.reloads == reloads + 2
                else:
                    assert server.reloads == reloads
            over.set()

        async with asyncio.TaskGroup() as tasks:
            for number, mine in enumerate(answers):
                tasks.create_task(fresh_connections(mine) if number % 2 else one_connection(mine))
            tasks.create_task(change())
        assert sum(map(len, answers)) > 100


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


@served
async def test_more_endpoints_than_servers_are_a_new_configuration(server: Server, directory: Path) -> None:
    async with backends(map(str, range(9))) as where:
        endpoints = list(where.values())
        await server.serve(table_of(WEB), {WEB: frozenset(endpoints[:1])})
        await server.serve(table_of(WEB), {WEB: frozenset(endpoints[:4])})
        assert server.reloads == 1
        await server.serve(table_of(WEB), {WEB: frozenset(endpoints)})
        assert server.reloads == 2
        assert {(await asked("a.test", "/"))[1][0] for _ in range(9)} == set(where)
        await server.serve(table_of(WEB), {WEB: frozenset()})
        assert server.reloads == 2
        assert (await asked("a.test", "/"))[0] == 503
        assert [path.name for path in directory.iterdir() if path.name.isdecimal()] == ["2"]


@served
async def test_a_configuration_that_is_refused_changes_nothing(server: Server, directory: Path) -> None:
    async with backends(["web"]) as where:
        endpoints = {WEB: frozenset(where.values()), ServicePort("default", "a b", 1): frozenset[Endpoint]()}
        await server.serve(table_of(WEB), endpoints)
        with pytest.raises(HaproxyError, match="haproxy refuses its configuration"):
            await server.serve(table_of(WEB, ServicePort("default", "a b", 1)), endpoints)
        assert (await asked("a.test", "/"))[0] == 200
        await server.serve(table_of(WEB), endpoints)


@served
async def test_an_order_that_is_refused_is_a_new_configuration(server: Server, directory: Path) -> None:
    async with backends(["web", "new"]) as where:
        await server.serve(table_of(WEB), {WEB: frozenset({where["web"]})})
        # Nobody but the server itself takes places away; here it is made to believe in more than there are.
        server._servers[WEB] = (*server._servers[WEB][:1], *(Endpoint("127.0.0.1", 1) for _ in range(8)), None)
        await server.serve(table_of(WEB), {WEB: frozenset({where["new"]})})
        assert server.reloads == 2
        assert (await asked("a.test", "/"))[1][0] == "new"
