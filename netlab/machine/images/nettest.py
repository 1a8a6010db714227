"""agnhost nettest: servers that call each other, and say whether all have (test/images/agnhost/nettest)."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab.machine.images import http as server
from netlab.machine.images import netexec
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import host_port

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATIENCE = 10.0
_SHORTEST_PAUSE = 5.0
_SHORTEST_TIME = 300.0
_ROUNDS = 15
_MOST_LOGGED = 500


@dataclass(frozen=True, slots=True)
class Options:
    """The flags."""

    port: int
    peers: int
    service: str
    namespace: str
    delay_shutdown: int


@dataclass
class State:
    """Who has called, and who was called; the names are those that /read shows."""

    Hostname: str
    Sent: dict[str, int] = field(default_factory=dict)
    Received: dict[str, int] = field(default_factory=dict)
    Errors: list[str] = field(default_factory=list)
    Log: list[str] = field(default_factory=list)
    StillContactingPeers: bool = True

    def log(self, line: str) -> None:
        """Keep a line, and the last of those before."""
        self.Log = [*self.Log, line][-_MOST_LOGGED:]

    def verdict(self, peers: int) -> str:
        """pass, running or fail."""
        if len(self.Sent) >= peers and len(self.Received) >= peers:
            return "pass"
        return "running" if self.StillContactingPeers else "fail"

    def received(self, body: bytes) -> None:
        """Another one has called."""
        try:
            source = json.loads(body)["Source"]
            if not isinstance(source, str) or not source:
                raise ValueError(f"{self.Hostname}: Got request with no source")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.Errors.append(str(error))
        else:
            self.Received[source] = self.Received.get(source, 0) + 1


def run(options: Options, env: Mapping[str, str]) -> int:
    """Serve until told to end; returns the exit status."""
    return asyncio.run(_run(options, env))


async def _run(options: Options, env: Mapping[str, str]) -> int:
    loop = asyncio.get_running_loop()
    state, end = State(os.uname().nodename), asyncio.Event()
    netexec.on_end_signals(loop, lambda: loop.call_later(options.delay_shutdown, end.set))

    async def answer(request: Request) -> Response:
        match request.path:
            case "/quit":
                os._exit(0)
            case "/read":
                return Response(json.dumps(vars(state), indent="\t"))
            case "/status":
                return Response(state.verdict(options.peers))
            case "/write":
                state.received(request.body)
                return Response(json.dumps({"Hostname": state.Hostname}) + "\n")
        return Response("404 page not found\n", 404)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.serve_connection(reader, writer, "", answer)

    await asyncio.start_server(client, sock=netexec.listen(socket.SOCK_STREAM, options.port))
    contacting = asyncio.create_task(_contact_others(options, state, env))
    ending = asyncio.create_task(end.wait())
    await asyncio.wait((contacting, ending), return_when=asyncio.FIRST_COMPLETED)
    if contacting.done() and contacting.exception() is not None:
        netexec.log(f"Unable to contact Kubernetes: {contacting.exception()}")
        return 1
    await ending
    contacting.cancel()
    return 0


async def _contact_others(options: Options, state: State, env: Mapping[str, str]) -> None:
    """Call all endpoints of the Service, once there are enough of them, and again for those that come later.

    Raises `OSError` if the API never answers.
    """
    pause, patience = max(_SHORTEST_PAUSE, options.peers // 10), max(_SHORTEST_TIME, options.peers)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    known: list[tuple[str, int]] | None = None
    while loop.time() < deadline:
        try:
            known = await asyncio.to_thread(_endpoints, options, env)
        except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
            state.log(f"Unable to read the endpoints for {options.namespace}/{options.service}: {error}.")
            failure = error
        if known is not None and len(known) >= options.peers:
            break
        await asyncio.sleep(pause)
    if known is None:
        raise OSError(str(failure))
    for _ in range(_ROUNDS):
        for host, port in known:
            await _contact(host, port, state)
        await asyncio.sleep(pause)
        try:
            known = await asyncio.to_thread(_endpoints, options, env)
        except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
            state.log(f"Unable to read the endpoints for {options.namespace}/{options.service}: {error}.")
    state.StillContactingPeers = False


async def _contact(host: str, port: int, state: State) -> None:
    where = f"http://{host_port(host, port)}"
    state.log(f"Attempting to contact {where}")
    body = json.dumps({"Dest": where, "Source": state.Hostname}).encode()
    try:
        async with asyncio.timeout(_PATIENCE):
            name = json.loads((await server.fetch(host, str(port), "write", body)).text)["Hostname"]
    except (OSError, EOFError, TimeoutError, ValueError, KeyError, TypeError) as error:
        state.log(f"Warning: unable to contact the endpoint {json.dumps(where)}: {error}")
        return
    state.Sent[name] = state.Sent.get(name, 0) + 1


def _endpoints(options: Options, env: Mapping[str, str]) -> list[tuple[str, int]]:
    """The Service's addresses and ports that are ready, by the API of the cluster that this pod is in."""
    context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    connection = http.client.HTTPSConnection(
        env["KUBERNETES_SERVICE_HOST"], int(env["KUBERNETES_SERVICE_PORT"]), timeout=_PATIENCE, context=context
    )
    try:
        token = (_ACCOUNT / "token").read_text(encoding="ascii").strip()
        path = f"/api/v1/namespaces/{options.namespace}/endpoints/{options.service}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        value: dict[str, Any] = json.loads(answer.read())
        if answer.status != http.client.OK:
            raise OSError(f"{answer.status} {value.get('message', '')}")
    finally:
        connection.close()
    return sorted(
        {
            (address["ip"], port["port"])
            for subset in value.get("subsets") or ()
            for address in subset.get("addresses") or ()
            for port in subset.get("ports") or ()
        }
    )
