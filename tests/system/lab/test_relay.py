"""Bytes between the host's loopback and a Unix socket: both ways, to their end, and to nobody else's socket."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.api.server.access.certificates import CertificateAuthority
from netlab.api.serving.secure import load_identity
from netlab.errors import NetlabError, UsageError
from netlab.lab import external_etcd, relay
from netlab.lab.paths import LabPaths

TIMEOUT = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="netlab-relay-") as made:
        yield Path(made)


def carrying(target: Path, owner: int | None = None) -> tuple[str, int]:
    """Carry to `target` until the test process ends; where to connect."""
    listener = relay.listen("127.0.0.1", 0)
    address: tuple[str, int] = listener.getsockname()
    relay.Relay(listener, relay.into(target, os.geteuid() if owner is None else owner)).start()
    return address


def serving(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(TIMEOUT)
    listener.bind(str(path))
    listener.listen(300)
    return listener


def test_both_directions_and_half_closing(folder: Path) -> None:
    with serving(folder / "s") as server, socket.create_connection(carrying(folder / "s"), TIMEOUT) as client:
        inside, _ = server.accept()
        with inside:
            inside.settimeout(TIMEOUT)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert inside.makefile("rb").read() == b"question"
            inside.sendall(b"answer")
        assert client.makefile("rb").read() == b"answer"


def test_more_than_a_buffer_waits_for_a_slow_reader(folder: Path) -> None:
    sent = os.urandom(1 << 20) * 32
    with serving(folder / "s") as server, socket.create_connection(carrying(folder / "s"), TIMEOUT) as client:
        inside, _ = server.accept()

        def send() -> None:
            inside.settimeout(TIMEOUT)
            inside.sendall(sent)
            inside.close()

        sender = threading.Thread(target=send)
        sender.start()
        with client.makefile("rb") as answer:
            assert answer.read() == sent
        sender.join()


def test_an_end_on_one_side_is_one_on_the_other(folder: Path) -> None:
    address = carrying(folder / "s")
    with serving(folder / "s") as server:
        for gone_first in ("client", "server"):
            client = socket.create_connection(address, TIMEOUT)
            inside, _ = server.accept()
            inside.settimeout(TIMEOUT)
            first, second = (client, inside) if gone_first == "client" else (inside, client)
            first.close()
            assert second.recv(1) == b""
            second.close()


def test_connections_are_bounded(folder: Path) -> None:
    address = carrying(folder / "s")
    with serving(folder / "s") as server:
        clients = []
        for _ in range(200):
            clients.append(socket.create_connection(address, TIMEOUT))
            clients.append(server.accept()[0])
        with socket.create_connection(address, TIMEOUT) as one_more:
            assert one_more.recv(1) == b""
        clients[0].close()
        clients[1].settimeout(TIMEOUT)
        assert clients[1].recv(1) == b""
        clients[1].close()
        with socket.create_connection(address, TIMEOUT) as again:
            inside, _ = server.accept()
            inside.sendall(b"x")
            assert again.recv(1) == b"x"
            inside.close()
        for client in clients:
            client.close()


@pytest.mark.parametrize("kind", ["nothing", "link", "file", "another's"])
def test_only_the_labs_own_socket_is_reached(folder: Path, kind: str) -> None:
    """A lab's root may put a link to a socket of the host's in the place of its own."""
    with serving(folder / "host") as host:
        if kind == "link":
            (folder / "s").symlink_to(folder / "host")
        elif kind == "file":
            (folder / "s").touch()
        elif kind == "another's":
            os.link(folder / "host", folder / "s")
        owner = os.geteuid() + 1 if kind == "another's" else None
        with socket.create_connection(carrying(folder / "s", owner), TIMEOUT) as client:
            assert client.recv(1) == b""
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()


def test_the_port_is_kept_unless_it_is_taken_or_not_the_kernels_choice() -> None:
    with relay.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with relay.listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] != port
    with relay.listen("127.0.0.1", port) as again:
        assert again.getsockname() == ("127.0.0.1", port)
    for no_choice in (-1, 0, 1, 8080, 1 << 40):
        with relay.listen("127.0.0.1", no_choice) as other:
            assert other.getsockname()[1] != no_choice


def test_another_hosts_address_is_refused() -> None:
    with pytest.raises(NetlabError, match=r"cannot listen on 203.0.113.7: .*--api-address"):
        relay.listen("203.0.113.7", 0)


def test_out_over_tls(folder: Path) -> None:
    signed = CertificateAuthority(folder / "ca", "etcd").issue_server(["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_identity(context, signed.certificate + signed.key)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    found = external_etcd.given("lab", url, folder / "ca/ca.crt", None, None)
    relay.Relay(relay.listen_within(folder / "out"), found.connect).start()
    sent = os.urandom(1 << 20)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(folder / "out"))
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as server:
            client.sendall(b"question")
            assert server.recv(100) == b"question"
            sender = threading.Thread(target=server.sendall, args=(sent,))
            sender.start()
            with client.makefile("rb") as answer:
                assert answer.read(len(sent)) == sent
            sender.join()
            server.unwrap()
        assert client.recv(1) == b""
    listener.close()


@pytest.mark.parametrize(
    ("url", "files", "message"),
    [
        ("host:2379", {}, "is not http://HOST:PORT, https://HOST:PORT or unix:PATH"),
        ("http://user@host", {}, "is not http://HOST:PORT"),
        ("http://host", {"cafile": Path("x")}, "is not of https: leave --etcd-cafile"),
        ("https://host", {"keyfile": Path("x")}, "give --etcd-certfile as well"),
    ],
)
def test_an_etcd_that_cannot_be(url: str, files: dict[str, Path], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        external_etcd.given("lab", url, files.get("cafile"), files.get("certfile"), files.get("keyfile"))


def test_where_an_etcd_is_is_kept_beside_the_lab(folder: Path) -> None:
    paths = LabPaths(folder / "lab")
    assert external_etcd.read(paths) is None
    found = external_etcd.given("lab", "http://host:1/", None, None, None)
    external_etcd.write(paths, found)
    assert external_etcd.read(paths) == found
    assert found.is_same(external_etcd.given("lab", "http://host:1", None, None, None))
    assert external_etcd.given("lab", "http://host:1", None, None, None).prefix != found.prefix
    assert oct((folder / "lab.etcd").stat().st_mode & 0o777) == "0o600"
    (folder / "lab.etcd").write_text("{}")
    with pytest.raises(NetlabError, match="which says where its etcd is, cannot be read"):
        external_etcd.read(paths)
