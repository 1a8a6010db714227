"""The built-in agnhost, over real sockets of both families."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived

from tests.system.machine.lab import Lab, wait_until, within

T = TypeVar("T")

FAMILIES = {"IPv4": "127.0.0.1", "IPv6": "::1"}


@pytest.fixture(scope="module")
def server(shared_lab: Lab) -> Lab:
    """A lab with one netexec, in container and sandbox `web`."""
    start(shared_lab, "web", "netexec", "--tcp-port=9000", "--udp-port", "8081")
    return shared_lab


@pytest.fixture(params=FAMILIES)
def address(request: pytest.FixtureRequest) -> str:
    return FAMILIES[str(request.param)]


def start(lab: Lab, name: str, *args: str, env: dict[str, str] | None = None) -> None:
    if name not in lab.node.state().sandboxes:
        lab.node.create_sandbox(name)
    lab.node.run_container(
        lab.spec(
            name,
            image="registry.k8s.io/e2e-test-images/agnhost:2.47",
            command=[],
            args=list(args),
            sandbox=name,
            hostname="web-0",
            env=env or {"COLOUR": "blue"},
        )
    )
    if args[0] == "netexec":
        wait_until(lambda: "Started HTTP server on port 8080" in lab.printed(name), "the server listens")


def inside(lab: Lab, action: Callable[[], T], name: str = "web") -> T:
    return within(lab.node.open(name), action)


def get(address: str, path: str, port: int = 8080) -> tuple[int, str]:
    host = f"[{address}]" if ":" in address else address
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers={"X-Colour": "red"})
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Location") or error.read().decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


@contextlib.contextmanager
def connected(address: str, port: int, kind: socket.SocketKind) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as client:
        client.settimeout(30)
        client.connect((address, port))
        yield client


@pytest.mark.parametrize(
    ("path", "status", "pattern"),
    [
        ("/", 200, r"NOW: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+0000 UTC"),
        ("/no-such-path", 200, r"NOW: .*"),
        ("/clientip", 200, r"CLIENT:\d+"),
        ("/serverport", 200, "8080"),
        ("/hostname", 200, "web-0"),
        ("/hostName", 200, "web-0"),
        ("/healthz", 200, ""),
        ("/echo?msg=a%20b&code=201", 201, "a b"),
        ("/echo?msg=x&code=y", 200, r"argument 'code' must be an integer or empty, got \"y\"\n"),
        ("/header?key=x-colour", 200, "red"),
        ("/redirect?location=/echo%3Fmsg=foobar&code=307", 307, r"/echo\?msg=foobar"),
        ("/redirect?location=/a%0d%0ax:y", 302, "/ax:y"),
        ("/shell?cmd=echo%20$COLOUR;exit%203", 200, r'\{"output": "blue\\n", "error": "exit status 3"\}'),
        ("/exit?code=200", 200, r"argument 'code' must be an integer \[0-127\] or empty, got \"200\"\n"),
        ("/exit?code=0&wait=soon", 200, "argument 'wait' must be a valid golang duration.*\n"),
        ("/dial?host=HOST&port=8080&request=hostname&tries=2", 200, r'\{"responses": \["web-0", "web-0"\]\}'),
        ("/dial?host=HOST&port=8081&request=hostname&protocol=udp", 200, r'\{"responses": \["web-0"\]\}'),
        ("/dial?host=HOST&port=9&request=hostname", 200, r'\{"errors": \["dial http .*"\]\}'),
        ("/dial?host=HOST&port=8080", 400, "request parameter not specified.\n"),
        ("/dial?host=HOST&port=8080&request=x&protocol=carrier-pigeon", 400, "unsupported protocol. carrier-pigeon\n"),
        ("/dial?host=HOST&port=99999&request=x", 400, "host and/or port param are invalid.\n"),
        ("/upload", 501, ".*\n"),
    ],
)
def test_netexec_over_http(server: Lab, address: str, path: str, status: int, pattern: str) -> None:
    got = inside(server, lambda: get(address, path.replace("HOST", address)))
    client = re.escape(f"[{address}]" if ":" in address else address)
    assert got[0] == status
    assert re.fullmatch(pattern.replace("CLIENT", client), got[1])


@pytest.mark.parametrize(("kind", "port"), [(socket.SOCK_DGRAM, 8081), (socket.SOCK_STREAM, 9000)])
def test_netexec_over_udp_and_tcp(server: Lab, address: str, kind: socket.SocketKind, port: int) -> None:
    def ask() -> tuple[list[str], str]:
        with connected(address, port, kind) as client:
            own = client.getsockname()
            answers = []
            for command in ("hostname", "clientip", "echo hello there"):
                client.send(f"{command}\n".encode())
                answers.append(client.recv(2048).decode().strip())
            return answers, f"[{own[0]}]:{own[1]}" if ":" in own[0] else f"{own[0]}:{own[1]}"

    answers, own = inside(server, ask)
    assert answers == ["web-0", own, "hello there"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"hostname\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000, b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http://[::1 HTTP/1.1\r\n\r\n", b""),
        (b"GET /hostname HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_garbage_is_refused(server: Lab, sent: bytes, status: bytes) -> None:
    def ask() -> bytes:
        with connected("127.0.0.1", 8080, socket.SOCK_STREAM) as client:
            client.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                return client.recv(65536)
        return b""

    assert inside(server, ask)[9:12] == status
    assert inside(server, lambda: get("127.0.0.1", "/hostname")) == (200, "web-0")


def test_connections_are_kept(server: Lab) -> None:
    def ask() -> bytes:
        request = b"GET /echo?msg=%d HTTP/1.1\r\nHost: x\r\n\r\n"
        with connected("127.0.0.1", 8080, socket.SOCK_STREAM) as client, client.makefile("rb") as reader:
            client.sendall(request % 1 + request % 2)
            client.sendall(b"HEAD /echo?msg=3 HTTP/1.1\r\nConnection: close\r\n\r\n")
            return reader.read()

    answer = inside(server, ask)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert re.findall(rb"\r\n\r\n([12])", answer) == [b"1", b"2"]
    assert answer.endswith(b"Connection: close\r\n\r\n")


@pytest.mark.parametrize(("path", "code"), [("/exit?code=42", 42), ("/exit?code=7&timeout=1s", 7), ("/shutdown", 0)])
def test_netexec_ends_as_told(lab: Lab, path: str, code: int) -> None:
    start(lab, "web", "netexec")

    # From the node's pid namespace: the container's takes everybody in it along.
    ask = f"exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET {path} HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3"
    lab.on_node("ip", "netns", "exec", "cni-web", "bash", "-c", ask)
    assert lab.ended("web").exit_code == code


def test_netexec_without_udp_and_with_an_override(lab: Lab) -> None:
    start(lab, "web", "netexec", "--udp-port=-1", "--http-override=/echo?msg=fixed")
    assert inside(lab, lambda: get("127.0.0.1", "/hostname")) == (200, "fixed")
    assert lab.node.exec("web", ["/agnhost", "connect", "127.0.0.1:8081", "--protocol=udp"], 30).output == b"REFUSED\n"


def test_a_port_in_use_ends_the_second_server(server: Lab) -> None:
    server.node.run_container(
        server.spec("second", image="agnhost", command=[], args=["netexec", "--udp-port=-1"], sandbox="web")
    )
    assert server.ended("second").exit_code == 1
    assert "Address already in use" in server.printed("second")
    server.node.remove("second")


@pytest.mark.parametrize(
    ("target", "flags", "outcome"),
    [
        ("127.0.0.1:8080", [], (0, b"")),
        ("[::1]:8080", [], (0, b"")),
        ("127.0.0.1:8081", ["--protocol=udp"], (0, b"")),
        ("127.0.0.1:9", [], (1, b"REFUSED\n")),
        ("192.0.2.1:9", ["--timeout", "100ms"], (1, b"OTHER: Network is unreachable\n")),
        ("no port", [], (1, b"Error: connect needs one HOST:PORT\n")),
    ],
)
def test_connect(server: Lab, target: str, flags: list[str], outcome: tuple[int, bytes]) -> None:
    result = server.node.exec("web", ["/agnhost", "connect", target, *flags], 30)
    assert (result.exit_code, result.output) == outcome


def test_serve_hostname(lab: Lab) -> None:
    start(lab, "web", "serve-hostname")
    start(lab, "raw", "serve-hostname", "--tcp", "--udp", "--port=9000")

    def tell() -> str:
        while True:
            with contextlib.suppress(ConnectionRefusedError), connected("::1", 9000, socket.SOCK_STREAM) as client:
                tcp = client.recv(100)
                break
        with connected("127.0.0.1", 9000, socket.SOCK_DGRAM) as client:
            client.send(b"?")
            return f"{tcp.decode()} {client.recv(100).decode()}"

    def tell_over_http() -> tuple[int, str]:
        while True:
            with contextlib.suppress(urllib.error.URLError):
                return get("::1", "/", 9376)

    assert inside(lab, tell, "raw") == "web-0 web-0"
    assert inside(lab, tell_over_http) == (200, "web-0")


def test_porter(lab: Lab) -> None:
    start(lab, "web", "porter", "--json-response", env={"SERVE_UDP_PORT_53": "b", "SERVE_PORT_80": "a"})

    def ask() -> tuple[int, str]:
        while True:
            with contextlib.suppress(urllib.error.URLError):
                return get("::1", "/any", 80)

    def send() -> bytes:
        with connected("127.0.0.1", 53, socket.SOCK_DGRAM) as client:
            client.send(b"?")
            return client.recv(100)

    assert inside(lab, lambda: (ask(), send())) == ((200, '{"Method": "GET", "Body": "a"}'), b"b")


def test_web_servers(lab: Lab) -> None:
    start(lab, "web", "test-webserver")
    for name in ("nginx", "httpd"):
        lab.node.create_sandbox(name)
        lab.node.run_container(lab.spec(name, image=f"{name}:latest", command=[], args=[], sandbox=name))

    def answer(path: str) -> tuple[int, str]:
        while True:
            with contextlib.suppress(urllib.error.URLError):
                return get("127.0.0.1", path, 80)

    assert "Welcome to nginx!" in inside(lab, lambda: answer("/"), "nginx")[1]
    assert "It works!" in inside(lab, lambda: answer("/index.html"), "httpd")[1]
    assert inside(lab, lambda: answer("/else"), "httpd")[0] == 404
    assert inside(lab, lambda: answer("/etc/hostname"))[0] == 200
    assert inside(lab, lambda: answer("/absent"))[0] == 404


def test_a_built_in_container_is_cheap(lab: Lab) -> None:
    """Under 6 MB of memory that it shares with nobody, as the kernel counts it, when it has served."""
    start(lab, "web", "netexec")
    assert inside(lab, lambda: get("::1", "/hostname")) == (200, "web-0")
    rollup = lab.on_node("cat", f"/proc/{lab.status('web').pid}/smaps_rollup")
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    assert private < 6 * 1024, rollup


def _received(port: int, sent: bytes = b"") -> bytes:
    """All that a server says, once it listens, to who has said something."""
    while True:
        with contextlib.suppress(ConnectionRefusedError), connected("127.0.0.1", port, socket.SOCK_STREAM) as client:
            client.sendall(sent)
            return b"".join(iter(lambda: client.recv(65536), b""))


def test_porter_over_tls(shared_lab: Lab) -> None:
    """With a certificate of its own for localhost."""
    start(shared_lab, "tls", "porter", "--json-response", env={"SERVE_TLS_PORT_443": "secret", "SERVE_PORT_80": "a"})

    def ask() -> tuple[bytes, str]:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        while True:
            with (
                contextlib.suppress(ConnectionRefusedError),
                connected("127.0.0.1", 443, socket.SOCK_STREAM) as plain,
                trusting.wrap_socket(plain) as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
                certificate = client.getpeercert(binary_form=True)
                assert certificate is not None
                return answer.rpartition(b"\r\n")[2], ssl.DER_cert_to_PEM_cert(certificate)[:10]

    assert inside(shared_lab, ask, "tls") == (b'{"Method": "GET", "Body": "secret"}', "-----BEGIN")


def test_port_forward_tester(shared_lab: Lab) -> None:
    asked = {"BIND_PORT": "80", "EXPECTED_CLIENT_DATA": "abc", "CHUNKS": "3", "CHUNK_SIZE": "4", "CHUNK_INTERVAL": "1"}
    start(shared_lab, "forward", "port-forward-tester", env=asked)
    assert inside(shared_lab, lambda: _received(80, b"abc"), "forward") == b"x" * 12
    assert shared_lab.ended("forward").exit_code == 0
    assert shared_lab.printed("forward").splitlines() == [
        *("Accepted client connection", "Received expected client data", "Shutting down connection", "Done")
    ]


def test_tcp_reset(shared_lab: Lab) -> None:
    start(shared_lab, "reset", "tcp-reset", "--port", "80")

    def reset() -> bool:
        try:
            _received(80, b"more than one byte")
        except ConnectionResetError:
            return True
        return False

    assert inside(shared_lab, reset, "reset")


def test_logs_generator(shared_lab: Lab) -> None:
    shared_lab.run("logs", "/agnhost", "logs-generator", "--log-lines-total", "5", "--run-duration", "10ms")
    lines = shared_lab.printed("logs").splitlines()
    assert [int(line.split("] ")[1].split()[0]) for line in lines] == [0, 1, 2, 3, 4]
    made = re.compile(r"I\d{4} .* \d (GET|POST|PUT) /api/v1/namespaces/(kube-system|default|ns)/pods/\w+ \d{3}")
    assert all(map(made.fullmatch, lines))


def test_no_snat_test(shared_lab: Lab) -> None:
    start(shared_lab, "snat", "no-snat-test", "--port", "80", env={"POD_IP": "127.0.0.1", "NODE_IP": "192.0.2.1"})

    def ask(path: str) -> tuple[int, str]:
        while True:
            with contextlib.suppress(urllib.error.URLError):
                return get("127.0.0.1", path, 80)

    assert inside(shared_lab, lambda: ask("/checknosnat?ips=127.0.0.1:80"), "snat") == (200, "")
    code, why = inside(shared_lab, lambda: ask("/checknosnat?ips=127.0.0.1:80,[::1]:80,127.0.0.1:9"), "snat")
    assert code == 500
    assert 'Returned ip "::1" != my Pod ip "127.0.0.1" or my Node ip "192.0.2.1"' in why


def test_guestbook(shared_lab: Lab) -> None:
    """A replica has what the primary had, and what it is told later."""
    start(shared_lab, "primary", "guestbook", "--http-port", "6379")

    def ask(port: int, path: str) -> dict[str, object]:
        while True:
            with contextlib.suppress(urllib.error.URLError):
                answer: dict[str, object] = json.loads(get("127.0.0.1", path, port)[1])
                return answer

    assert inside(shared_lab, lambda: ask(6379, "/set?key=a&value=old"), "primary") == {"message": "Updated"}
    command = ["/agnhost", "guestbook", "--http-port", "80", "--replicaof", "127.0.0.1"]
    shared_lab.node.run_container(shared_lab.spec("replica", *command, sandbox="primary"))
    wait_until(lambda: "Registered to node" in shared_lab.printed("replica"), "the replica has registered")
    assert inside(shared_lab, lambda: ask(80, "/get?key=a"), "primary") == {"data": "old"}
    assert inside(shared_lab, lambda: ask(80, "/get"), "primary") == {"data": {"a": "old"}}


def test_the_update_demo(shared_lab: Lab) -> None:
    for name in ("nautilus", "kitten"):
        shared_lab.node.create_sandbox(name)
        image = f"registry.k8s.io/e2e-test-images/{name}:1.7"
        shared_lab.node.run_container(shared_lab.spec(name, image=image, command=[], args=[], sandbox=name))

        def ask() -> str:
            while True:
                with contextlib.suppress(urllib.error.URLError):
                    return get("127.0.0.1", "/data.json", 80)[1]

        assert json.loads(inside(shared_lab, ask, name)) == {"image": f"{name}.jpg"}


def _checked(service: bytes) -> tuple[bytes, bytes]:
    """The status of gRPC, and the message, with which a health service answers."""
    while True:
        with (
            contextlib.suppress(ConnectionRefusedError),
            connected("127.0.0.1", 5000, socket.SOCK_STREAM) as client,
        ):
            connection = H2Connection(H2Configuration(header_encoding=None))
            connection.initiate_connection()
            headers = [(":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check")]
            connection.send_headers(1, [*headers, (":authority", "x"), ("content-type", "application/grpc")])
            message = b"\x0a" + bytes((len(service),)) + service
            connection.send_data(1, b"\0" + len(message).to_bytes(4) + message, end_stream=True)
            client.sendall(connection.data_to_send())
            answered: dict[bytes, bytes] = {}
            body = b""
            while b"grpc-status" not in answered:
                for event in connection.receive_data(client.recv(65536)):
                    answered.update(getattr(event, "headers", None) or {})
                    body += getattr(event, "data", b"") if isinstance(event, DataReceived) else b""
            return answered[b"grpc-status"], body[5:]


def test_grpc_health_checking(shared_lab: Lab) -> None:
    start(shared_lab, "grpc", "grpc-health-checking", "--service", "web")
    assert inside(shared_lab, lambda: _checked(b"web"), "grpc") == (b"0", b"\x08\x01")
    assert inside(shared_lab, lambda: _checked(b"other"), "grpc") == (b"5", b"")
    assert inside(shared_lab, lambda: get("127.0.0.1", "/make-not-serving")[0], "grpc") == 200
    assert inside(shared_lab, lambda: _checked(b"web"), "grpc") == (b"0", b"\x08\x02")
    assert inside(shared_lab, lambda: get("127.0.0.1", "/make-serving")[0], "grpc") == 200
    assert inside(shared_lab, lambda: _checked(b"web"), "grpc") == (b"0", b"\x08\x01")
    # A client that speaks something else is left.
    assert b"\0\0" in inside(shared_lab, lambda: _received(5000, b"GET / HTTP/1.1\r\n\r\n" * 3), "grpc")
