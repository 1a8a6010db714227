"""agnhost's small programs: logs-generator, port-forward-tester, tcp-reset and no-snat-test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Mapping

from netlab.machine.images import flags, http, netexec
from netlab.machine.images.http import Request, Response

_METHODS, _NAMESPACES = ("GET", "POST", "PUT"), ("kube-system", "default", "ns")
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_FIRST_BYTE = 5.0
"""Seconds for a client of tcp-reset to send something; one at a time is served, as by the real one."""
_BEFORE_RESET = 0.5
"""Seconds between the end of the data and the end of the connection: the other end sees the FIN first."""


def generate_logs(lines: int, seconds: float) -> int:
    """Print lines like those of an API server, evenly over so many seconds, each with its number first."""
    if lines <= 0 or seconds <= 0:
        raise flags.FlagError("logs-generator needs --log-lines-total and --run-duration, both above 0")
    import random  # few containers need it

    began = time.monotonic()
    for number in range(lines):
        name = "".join(random.choices(_LETTERS, k=random.randint(3, 4)))  # noqa: S311
        path = f"/api/v1/namespaces/{random.choice(_NAMESPACES)}/pods/{name}"  # noqa: S311
        line = f"{number} {random.choice(_METHODS)} {path} {random.randint(200, 599)}"  # noqa: S311
        # As klog begins a line.
        moment = time.strftime("%m%d %H:%M:%S", time.localtime())
        print(f"I{moment}.{time.time_ns() // 1000 % 1_000_000:06} {1:7} logs_generator.go:76] {line}", flush=True)
        time.sleep(max(0.0, began + (number + 1) * seconds / lines - time.monotonic()))
    return 0


def forward_test(env: Mapping[str, str]) -> int:
    """Serve one TCP client: read what is expected, and send chunks of `x`. Returns 2 or 3 for something else."""
    try:
        chunks, size, pause = (int(env.get(name, "")) for name in ("CHUNKS", "CHUNK_SIZE", "CHUNK_INTERVAL"))
        listener = socket.create_server((env.get("BIND_ADDRESS") or "localhost", int(env.get("BIND_PORT", ""))))
    except (ValueError, OSError) as error:
        print(f"Error listening: {error}", flush=True)
        return 1
    client, _ = listener.accept()
    print("Accepted client connection", flush=True)
    with client:
        if expected := env.get("EXPECTED_CLIENT_DATA", "").encode():
            read = client.recv(len(expected))
            if len(read) != len(expected):
                print(f"Expected to read {len(expected)} bytes from client, but got {len(read)} instead.", flush=True)
                return 2
            if read != expected:
                print(f"Expect to read {expected!r}, but got {read!r}.", flush=True)
                return 3
            print("Received expected client data", flush=True)
        for number in range(chunks):
            client.sendall(b"x" * size)
            if number + 1 < chunks:
                time.sleep(pause / 1000)
        print("Shutting down connection", flush=True)
        client.shutdown(socket.SHUT_WR)
        time.sleep(_BEFORE_RESET)
    print("Done", flush=True)
    return 0


def reset_connections(port: int) -> int:
    """Close each connection while it has data that is not read: the kernel sends a RST then (RFC 2525, 2.17)."""
    return asyncio.run(_reset_connections(port))


async def _reset_connections(port: int) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)

    def attend() -> None:
        client, address = listener.accept()
        with client:
            client.settimeout(_FIRST_BYTE)
            with contextlib.suppress(OSError):
                client.recv(1)
        netexec.log(f"TCP request from {http.format_address(address)}")

    listener = netexec.listen(socket.SOCK_STREAM, port)
    asyncio.get_running_loop().add_reader(listener, attend)
    netexec.log(f"Serving on port {port}.")
    await end.wait()
    return 0


def check_no_snat(port: int, env: Mapping[str, str]) -> int:
    """Tell clients their address (/whoami), and ask others' for this pod's own (/checknosnat?ips=…)."""
    own = {name: env.get(name, "") for name in ("POD_IP", "NODE_IP")}
    for name, address in own.items():
        try:
            socket.getaddrinfo(address or "none", None, flags=socket.AI_NUMERICHOST)
        except OSError:
            print(f"{name} env var contained {address!r}, which is not an IP address", file=sys.stderr)
            return 1
    return asyncio.run(_check_no_snat(port, own["POD_IP"], own["NODE_IP"]))


def proxy_no_snat(port: int) -> int:
    """Have a server of no-snat-test, TARGET, answer (/checknosnat?target=TARGET&ips=...); returns the exit status."""

    async def answer(request: Request) -> Response:
        if request.path != "/checknosnat":
            return Response("404 page not found\n", 404)
        host, _, other = request.form.get("target", "").rpartition(":")
        try:
            return await http.fetch(host.strip("[]"), other, f"checknosnat?ips={request.form.get('ips', '')}")
        except (OSError, EOFError) as error:
            return Response(f"error querying {host}:{other}, err: {error}", 500)

    return asyncio.run(_serve(port, answer))


async def _check_no_snat(port: int, pod: str, node: str) -> int:
    async def answer(request: Request) -> Response:
        if request.path == "/whoami":
            return Response(request.client)
        if request.path != "/checknosnat":
            return Response("404 page not found\n", 404)
        targets = request.form.get("ips", "").split(",")
        wrong = [each for each in [await _wrong_with(target, pod, node) for target in targets] if each]
        return Response(", ".join(wrong), 500 if wrong else 200)

    return await _serve(port, answer)


async def _serve(port: int, answer: http.Handler) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = http.format_address(writer.get_extra_info("peername"))
        await http.serve_connection(reader, writer, client, answer)

    await asyncio.start_server(serve, sock=netexec.listen(socket.SOCK_STREAM, port))
    await end.wait()
    return 0


async def _wrong_with(target: str, pod: str, node: str) -> str:
    """What is wrong with the address by which a target, HOST:PORT, knows this pod; or ""."""
    host, _, port = target.rpartition(":")
    try:
        seen = (await http.get(host.strip("[]"), port, "whoami")).rpartition(":")[0].strip("[]")
    except (OSError, EOFError) as error:
        return str(error)
    if seen == pod:
        return ""
    if seen == node:
        return f'Returned ip "{seen}" != my Pod ip "{pod}", == my Node ip "{node}" - SNAT'
    return f'Returned ip "{seen}" != my Pod ip "{pod}" or my Node ip "{node}" - SNAT to unexpected ip'
