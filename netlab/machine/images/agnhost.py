"""agnhost: Kubernetes' program for testing networks, built in, so that manifests made for it run unchanged.

Subcommands, with the flags of the real one: netexec, serve-hostname, connect, test-webserver, liveness, mounttest,
porter, guestbook, grpc-health-checking, inclusterclient, logs-generator, port-forward-tester, tcp-reset, no-snat-test,
dns-suffix, dns-server-list, etc-hosts, entrypoint-tester, test-service-account-issuer-discovery, pause.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from netlab.machine.images import flags, guestbook, http, mounttest, netexec, pause, porter, testers, webserver
from netlab.machine.images.http import Request, Response
from netlab.machine.images.tls import allow_tls


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a subcommand; returns its exit status."""
    name, arguments = (argv[1], argv[2:]) if len(argv) > 1 else ("", ())
    if name == "entrypoint-tester":
        print(f"[{' '.join(argv)}]", flush=True)  # as Go prints a slice
        return 0
    if name in ("", "help", "-h", "--help"):
        print("Usage:\n  app [command]\n\nAvailable Commands:", *(f"  {each}" for each in sorted(_COMMANDS)), sep="\n")
        return 0
    command = _COMMANDS.get(name)
    if command is None:
        # In cobra's words, by the name that the real program gives itself.
        print(f'Error: unknown command "{name}" for "app"\nRun \'app --help\' for usage.', file=sys.stderr)
        return 1
    try:
        return command(flags.without_logging(arguments), env)
    except flags.FlagError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _pause(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    print("Paused", flush=True)
    return pause.main((), env)


def _netexec(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(
        arguments,
        {
            "http-port": (flags.port, 8080),
            "udp-port": (flags.port, 8081),
            "tcp-port": (flags.port, -1),
            "udp-listen-addresses": (str, ""),
            "http-override": (str, ""),
            "delay-shutdown": (int, 0),
            "tls-cert-file": (str, ""),
            "tls-private-key-file": (str, ""),
        },
    )
    options = netexec.Options(
        http_port=values["http-port"],
        udp_port=values["udp-port"],
        tcp_port=values["tcp-port"],
        udp_addresses=tuple(filter(None, values["udp-listen-addresses"].split(","))),
        http_override=values["http-override"],
        delay_shutdown=values["delay-shutdown"],
        tls_certificate=values["tls-cert-file"],
        tls_key=values["tls-private-key-file"],
    )
    return netexec.run(options, env)


def _serve_hostname(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(
        arguments,
        {
            "port": (flags.port, 9376),
            "close": (flags.boolean, False),
            "http": (flags.boolean, None),
            "tcp": (flags.boolean, False),
            "udp": (flags.boolean, False),
        },
    )
    if values["http"] and (values["tcp"] or values["udp"]):
        raise flags.FlagError("--http cannot be given with --tcp or --udp")
    return asyncio.run(_tell_hostname(**values))


async def _tell_hostname(*, port: int, close: bool, http: bool | None, tcp: bool, udp: bool) -> int:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    netexec.on_end_signals(loop, end.set)
    if udp:
        await loop.create_datagram_endpoint(_HostnameDatagrams, sock=netexec.listen(socket.SOCK_DGRAM, port))
    if tcp or not udp:
        serve = _tell_over_tcp if tcp else _tell_over_http(close)
        await asyncio.start_server(serve, sock=netexec.listen(socket.SOCK_STREAM, port))
    await end.wait()
    return 0


class _HostnameDatagrams(netexec.Datagrams):
    """Answers every datagram with the hostname."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._transport.sendto(socket.gethostname().encode(), addr)


async def _tell_over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(socket.gethostname().encode())
    writer.close()


def _tell_over_http(close: bool) -> Any:
    headers = {"Connection": "close"} if close else {}

    async def tell(request: Request) -> Response:
        return Response(socket.gethostname(), headers=headers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", tell)

    return serve


def _test_webserver(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    return webserver.test_webserver()


def _liveness(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    return webserver.liveness()


def _mounttest(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    return mounttest.run(arguments)


def _porter(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(arguments, {"json-response": (flags.boolean, False)})
    return porter.run(env, json_response=values["json-response"])


def _guestbook(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(
        arguments, {"http-port": (flags.port, 80), "backend-port": (str, "6379"), "replicaof": (str, "")}
    )
    return guestbook.run(values["http-port"], values["backend-port"], values["replicaof"])


def _logs_generator(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(arguments, {"log-lines-total": (int, 0), "run-duration": (netexec.parse_duration, 0.0)})
    return testers.generate_logs(values["log-lines-total"], values["run-duration"])


def _port_forward_tester(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    return testers.forward_test(env)


def _tcp_reset(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(arguments, {"port": (flags.port, 8080)})
    return testers.reset_connections(values["port"])


def _no_snat_test(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(arguments, {"port": (flags.port, 8080)})
    return testers.check_no_snat(values["port"], env)


def _grpc_health_checking(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    from netlab.machine.images import grpc_health

    values, _ = flags.parse(
        arguments,
        {
            "port": (flags.port, 5000),
            "http-port": (flags.port, 8080),
            "service": (str, ""),
            "delay-unhealthy-sec": (int, -1),
        },
    )
    return grpc_health.run(values["port"], values["http-port"], values["service"], float(values["delay-unhealthy-sec"]))


def _inclusterclient(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    allow_tls()
    from netlab.machine.images import incluster

    values, _ = flags.parse(arguments, {"poll-interval": (int, 30)})
    return incluster.run(max(1, values["poll-interval"]), env)


def _test_issuer_discovery(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    allow_tls()
    from netlab.machine.images import issuer_discovery

    values, _ = flags.parse(arguments, {"token-path": (str, ""), "audience": (str, "")})
    return issuer_discovery.run(values["token-path"], values["audience"], env)


def _webhook(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    from netlab.machine.images import webhook

    return webhook.serve_admission(_webhook_options(arguments))


def _crd_conversion_webhook(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    from netlab.machine.images import webhook

    return webhook.serve_conversion(_webhook_options(arguments))


def _webhook_options(arguments: Sequence[str]) -> Any:
    from netlab.machine.images.webhook import Options

    values, _ = flags.parse(
        arguments,
        {
            "port": (flags.port, 443),
            "tls-cert-file": (str, ""),
            "tls-private-key-file": (str, ""),
            "sidecar-image": (str, ""),
        },
    )
    return Options(values["port"], values["tls-cert-file"], values["tls-private-key-file"], values["sidecar-image"])


def _net(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    from netlab.machine.images import nat

    values, _ = flags.parse(
        arguments,
        {"serve": (str, ""), "runner": (str, ""), "options": (str, ""), "delay-shutdown": (int, 0)},
    )
    if not (values["serve"] or values["runner"]):
        raise flags.FlagError("Must set either --runner or --serve, see --help")
    try:
        if values["serve"]:
            return nat.serve(values["serve"], values["delay-shutdown"])
    except (nat.RunnerError, OSError) as error:
        raise flags.FlagError(f"--serve: {error}") from error
    return nat.run_once(values["runner"], values["options"])


def _nettest(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    allow_tls()
    from netlab.machine.images import nettest

    values, _ = flags.parse(
        arguments,
        {
            "port": (flags.port, 8080),
            "peers": (int, 8),
            "service": (str, "nettest"),
            "namespace": (str, "default"),
            "delay-shutdown": (int, 0),
        },
    )
    if not values["service"]:
        raise flags.FlagError("Must provide -service flag.")
    options = nettest.Options(
        values["port"], values["peers"], values["service"], values["namespace"], values["delay-shutdown"]
    )
    return nettest.run(options, env)


def _no_snat_test_proxy(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    values, _ = flags.parse(arguments, {"port": (flags.port, 31235)})
    return testers.proxy_no_snat(values["port"])


def _nonewprivs(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    print(f"Effective uid: {os.geteuid()}", flush=True)
    return 0


def _dns_suffix(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    return _told_by_resolv_conf(arguments, "search")


def _dns_server_list(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    return _told_by_resolv_conf(arguments, "nameserver")


def _told_by_resolv_conf(arguments: Sequence[str], keyword: str) -> int:
    """Print what the first line of a keyword has, with commas between."""
    flags.parse(arguments, {})
    with open("/etc/resolv.conf", encoding="utf-8") as file:  # noqa: PTH123 - pid 1 stays small
        for line in file:
            words = line.split()
            if words[:1] == [keyword]:
                print(",".join(words[1:]), flush=True)
                return 0
    print(f"/etc/resolv.conf has no {keyword}", file=sys.stderr)
    return 1


def _etc_hosts(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    flags.parse(arguments, {})
    with open("/etc/hosts", encoding="utf-8") as file:  # noqa: PTH123
        print(file.read(), flush=True)
    return 0


def _connect(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Return 0, or print why the target cannot be reached: TIMEOUT, REFUSED, DNS or OTHER."""
    values, targets = flags.parse(arguments, {"timeout": (netexec.parse_duration, 0.0), "protocol": (str, "tcp")})
    host, colon, port = targets[0].rpartition(":") if len(targets) == 1 else ("", "", "")
    if not colon or not port.isdecimal():
        raise flags.FlagError("connect needs one HOST:PORT")
    if values["protocol"] not in ("tcp", "udp"):
        raise flags.FlagError(f"unsupported protocol {values['protocol']!r}: tcp or udp")
    try:
        _dial(host.strip("[]"), int(port), values["protocol"], values["timeout"] or None)
    except socket.gaierror as error:
        reason = f"DNS: {error}"
    except TimeoutError:
        reason = "TIMEOUT"
    except ConnectionRefusedError:
        reason = "REFUSED"
    except OSError as error:
        reason = f"OTHER: {error.strerror}"
    else:
        return 0
    print(reason, file=sys.stderr)
    return 1


def _dial(host: str, port: int, protocol: str, timeout: float | None) -> None:
    if protocol == "tcp":
        socket.create_connection((host, port), timeout).close()
        return
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as client:
        client.settimeout(timeout)
        client.connect(address)
        client.send(b"hostname")  # netexec answers it; an ICMP error is ECONNREFUSED on the read
        client.recv(2048)


_COMMANDS = {
    "netexec": _netexec,
    "serve-hostname": _serve_hostname,
    "connect": _connect,
    "test-webserver": _test_webserver,
    "liveness": _liveness,
    "mounttest": _mounttest,
    "porter": _porter,
    "test-service-account-issuer-discovery": _test_issuer_discovery,
    "dns-suffix": _dns_suffix,
    "dns-server-list": _dns_server_list,
    "etc-hosts": _etc_hosts,
    "guestbook": _guestbook,
    "grpc-health-checking": _grpc_health_checking,
    "inclusterclient": _inclusterclient,
    "logs-generator": _logs_generator,
    "port-forward-tester": _port_forward_tester,
    "tcp-reset": _tcp_reset,
    "no-snat-test": _no_snat_test,
    "no-snat-test-proxy": _no_snat_test_proxy,
    "net": _net,
    "nettest": _nettest,
    "nonewprivs": _nonewprivs,
    "webhook": _webhook,
    "crd-conversion-webhook": _crd_conversion_webhook,
    "pause": _pause,
}
