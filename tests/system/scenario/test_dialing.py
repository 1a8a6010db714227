"""Requests from another network namespace, answered by agnhost there."""

import contextlib
import os
import signal
import socket
import time

import pytest

from netlab.errors import NetlabError, NotFoundError
from netlab.machine.images import agnhost
from netlab.net import syscalls
from netlab.scenario import dialing
from tests.sandbox import isolated
from tests.system.scenario.elsewhere import elsewhere
from tests.system.scenario.sockets import SocketFactory

LOCALHOST = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = list(LOCALHOST)
HTTP, UDP, TCP = 8080, 8081, 8082
NETWORK = syscalls.CLONE_NEWNET, "ip link set lo up"


def serve() -> None:
    agnhost.main(["agnhost", "netexec", f"--tcp-port={TCP}"], {})


def made(factory: SocketFactory, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    client = factory.make(family, kind)
    client.settimeout(10)
    return client


def wait_served(factory: SocketFactory) -> None:
    """HTTP is the last of netexec's servers to listen."""
    deadline = time.monotonic() + 30
    while not dialing.http_get(made(factory, socket.AF_INET, socket.SOCK_STREAM), "127.0.0.1", HTTP, "/").ok:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@isolated
@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_in_another_namespace_is_asked_and_answers(family: socket.AddressFamily) -> None:
    address = LOCALHOST[family]
    with elsewhere(*NETWORK, serve) as pidfd, contextlib.closing(SocketFactory(pidfd)) as factory:
        wait_served(factory)
        answer = dialing.http_get(made(factory, family, socket.SOCK_STREAM), address, HTTP, "/clientip")
        assert (answer.ok, answer.status, answer.text) == (True, 200, answer.client)
        assert answer.source == address
        answer = dialing.http_get(made(factory, family, socket.SOCK_STREAM), address, HTTP, "/echo?msg=x&code=404")
        assert (answer.ok, answer.status, answer.text) == (True, 404, "x")
        answer = dialing.udp(made(factory, family, socket.SOCK_DGRAM), address, UDP, "clientip")
        assert (answer.ok, answer.text) == (True, answer.client)
        answer = dialing.tcp_line(made(factory, family, socket.SOCK_STREAM), address, TCP, "echo hello")
        assert (answer.ok, answer.text) == (True, "hello")
        # Here nobody listens: the answers came from the other namespace.
        with pytest.raises(OSError, match=r"refused|unreachable|assign"):
            socket.create_connection((address, HTTP))


@isolated
def test_why_there_is_no_answer_is_told() -> None:
    with elsewhere(*NETWORK) as pidfd, contextlib.closing(SocketFactory(pidfd)) as factory:

        def tcp() -> socket.socket:
            return made(factory, socket.AF_INET, socket.SOCK_STREAM)

        def udp() -> socket.socket:
            return made(factory, socket.AF_INET, socket.SOCK_DGRAM)

        assert dialing.http_get(tcp(), "127.0.0.1", 1, "/").text == dialing.REFUSED
        assert dialing.udp(udp(), "127.0.0.1", 1, "x").text == dialing.REFUSED
        assert dialing.http_get(tcp(), "192.0.2.1", 80, "/").text == "Network is unreachable"
        with tcp() as silent:
            silent.bind(("127.0.0.1", 80))
            silent.listen()
            client = tcp()
            client.settimeout(0.01)
            answer = dialing.http_get(client, "127.0.0.1", 80, "/")
            assert (answer.ok, answer.text, answer.source) == (False, dialing.NO_ANSWER, "127.0.0.1")
        with udp() as mute:
            mute.bind(("127.0.0.1", 81))
            client = udp()
            client.settimeout(0.01)
            assert dialing.udp(client, "127.0.0.1", 81, "x").text == dialing.NO_ANSWER


@isolated
def test_sockets_outlive_the_process_that_made_them_and_its_death_is_told() -> None:
    with elsewhere(*NETWORK) as pidfd:
        factory = SocketFactory(pidfd)
        with made(factory, socket.AF_INET, socket.SOCK_DGRAM) as here:
            os.kill(factory._envoy.pid, signal.SIGKILL)
            here.bind(("127.0.0.1", 0))
            with pytest.raises(NetlabError, match="process that makes sockets"):
                made(factory, socket.AF_INET, socket.SOCK_DGRAM)
        factory.close()
        factory.close()


@isolated
def test_what_the_kernel_refuses_is_an_error_of_the_socket() -> None:
    with elsewhere(*NETWORK) as pidfd, contextlib.closing(SocketFactory(pidfd)) as factory:
        with pytest.raises(OSError, match="not supported"):
            factory.make(socket.AF_INET, socket.SocketKind.SOCK_SEQPACKET)
        made(factory, socket.AF_INET, socket.SOCK_DGRAM).close()


@isolated
def test_a_namespace_whose_process_has_ended_cannot_be_entered() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    os.waitpid(child, 0)
    with pytest.raises(NotFoundError, match="ended in the meantime"):
        SocketFactory(pidfd)
