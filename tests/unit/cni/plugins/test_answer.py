"""Answers: what is refused before a plugin sees it, and that every failure is an error object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from netlab.cni.plugins import answer as answering
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import VERSIONS
from netlab.net.netlink import NetlinkError

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
ENVIRONMENT = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}


def nothing(_: Request) -> None:
    return None


def answer(
    command: str,
    config: object,
    handler: Callable[[Request], Any] = nothing,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> tuple[int, Any]:
    handlers = dict.fromkeys(COMMANDS, handler)
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    status, output = answering.answer(handlers, {**environment, "CNI_COMMAND": command}, lambda: text)
    return status, json.loads(output) if output else None


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b"", errors.DECODING_FAILURE, "empty"),
        (b"[]", errors.DECODING_FAILURE, "not a JSON object"),
        (b'{"name":"a"}', errors.INCOMPATIBLE_VERSION, "cniVersion: '0.1.0'"),
        (b'{"name":"a","cniVersion":"0.2.0"}', errors.INCOMPATIBLE_VERSION, "take one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (b'{"name":"a","cniVersion":"9.0.0"}', errors.INCOMPATIBLE_VERSION, "cniVersion: '9.0.0'"),
        (b'{"name":"a","cniVersion":["1.0.0"]}', errors.INCOMPATIBLE_VERSION, "cniVersion"),
        (b'{"cniVersion":"1.0.0"}', errors.INVALID_CONFIG, "name: None"),
        (b'{"cniVersion":"1.0.0","name":"../x"}', errors.INVALID_CONFIG, "name: '../x'"),
    ],
)
def test_wrong_input(text: bytes, code: int, said: str) -> None:
    status, said_instead = answer("ADD", text)
    assert (status, said_instead["code"]) == (1, code)
    assert said in said_instead["msg"]


@pytest.mark.parametrize("command", ["ADD", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("type", 7, "type: 7 must be a string"),
        ("type", "../bridge", "type: '../bridge' must be the name of an executable, not a path"),
        ("ipMasq", "yes", "ipMasq: 'yes' must be true or false"),
        ("args", [], "args: [] must be an object"),
        ("capabilities", ["ips"], "capabilities: ['ips'] must be an object"),
        ("capabilities", {"ips": 1}, "capabilities.ips: 1 must be true or false"),
        ("runtimeConfig", "x", "runtimeConfig: 'x' must be an object"),
        ("prevResult", [], "prevResult: [] must be an object"),
        ("ipam", "host-local", "ipam: 'host-local' must be an object"),
        ("ipam", {"type": []}, "ipam.type: [] must be a string"),
        ("dns", ["10.0.0.1"], "dns: ['10.0.0.1'] must be an object"),
        ("dns", {"nameservers": "10.0.0.1"}, "dns.nameservers: '10.0.0.1' must be a list"),
        ("dns", {"domain": 1}, "dns.domain: 1 must be a string"),
        ("dns", {"search": [1]}, "dns.search[0]: 1 must be a printable string"),
        ("dns", {"options": {}}, "dns.options: {} must be a list"),
        ("lingerSeconds", "5", "lingerSeconds: '5' must be a number"),
        ("lingerSeconds", True, "lingerSeconds: True must be a number"),
        ("lingerSeconds", -1, "lingerSeconds: -1 must be 0 (leave no process) to 3600"),
        ("lingerSeconds", 3601, "lingerSeconds: 3601 must be 0 (leave no process) to 3600"),
    ],
)
def test_every_key_of_all_plugins_has_its_type(command: str, key: str, value: object, said: str) -> None:
    status, error = answer(command, {"cniVersion": "1.1.0", "name": "net", key: value})
    assert (status, error["code"], error["msg"]) == (1, errors.INVALID_CONFIG, said)


@pytest.mark.parametrize(
    ("command", "change", "said"),
    [
        ("ADD", {"CNI_NETNS": ""}, "CNI_NETNS"),
        ("CHECK", {"CNI_NETNS": ""}, "CNI_NETNS"),
        ("ADD", {"CNI_CONTAINERID": "", "CNI_IFNAME": ""}, "CNI_CONTAINERID, CNI_IFNAME"),
        *((command, {"CNI_PATH": ""}, "CNI_PATH") for command in COMMANDS),
        ("ADD", {"CNI_CONTAINERID": "-c"}, "CNI_CONTAINERID"),
        ("ADD", {"CNI_CONTAINERID": "c/d"}, "CNI_CONTAINERID"),
        ("DEL", {"CNI_IFNAME": "a/b"}, "CNI_IFNAME"),
        ("DEL", {"CNI_IFNAME": ".."}, "CNI_IFNAME"),
        ("ADD", {"CNI_IFNAME": "sixteen-letters-"}, "CNI_IFNAME"),
        ("ADD", {"CNI_IFNAME": "a b"}, "CNI_IFNAME"),
        ("WHAT", {}, "CNI_COMMAND: 'WHAT' must be ADD, DEL, CHECK, GC, STATUS or VERSION"),
        ("", {}, "CNI_COMMAND"),
        ("ADD", {"CNI_ARGS": "IP"}, "CNI_ARGS: 'IP' must be KEY=VALUE"),
        ("ADD", {"CNI_ARGS": "A=B;IP=10.0.0.1"}, "CNI_ARGS: 'A' is unknown; add IgnoreUnknown=1"),
        ("CHECK", {"CNI_ARGS": "A=B;IgnoreUnknown=0"}, "CNI_ARGS: 'A'"),
        ("ADD", {"CNI_ARGS": "IgnoreUnknown=perhaps"}, "CNI_ARGS: IgnoreUnknown"),
    ],
)
def test_the_error_names_the_wrong_variables(command: str, change: dict[str, str], said: str) -> None:
    status, error = answer(command, {"cniVersion": "1.1.0", "name": "net"}, environment={**ENVIRONMENT, **change})
    assert (status, error["code"]) == (1, errors.INVALID_ENVIRONMENT)
    assert error["msg"].startswith(said)


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("DEL", {"CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}),
        ("DEL", {"CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_PATH": "/p", "CNI_ARGS": "A=B;C"}),
        ("GC", {"CNI_PATH": "/p"}),
        ("STATUS", {"CNI_PATH": "/p"}),
        ("ADD", {**ENVIRONMENT, "CNI_ARGS": "K8S_POD_NAME=a;K8S_POD_UID=b"}),
        ("ADD", {**ENVIRONMENT, "CNI_ARGS": "IgnoreUnknown=TRUE;A=B;K8S_POD_NAME=a"}),
    ],
)
def test_variables_that_suffice(command: str, variables: dict[str, str]) -> None:
    assert answer(command, {"cniVersion": "1.1.0", "name": "net"}, environment=variables) == (0, None)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_is_refused_in_versions_before_it_came(command: str, version: str) -> None:
    since = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}.get(command, version)
    status, error = answer(command, {"cniVersion": version, "name": "net"})
    if version >= since:
        assert (status, error) == (0, None)
    else:
        assert error == {
            "cniVersion": version,
            "code": errors.INCOMPATIBLE_VERSION,
            "msg": f"cniVersion: {version!r}: {command} came with {since}",
        }


@pytest.mark.parametrize(
    ("stdin", "version"),
    [(b'{"cniVersion":"0.4.0"}', "0.4.0"), (b'{"cniVersion":"9.9.9"}', "1.1.0")]
    + [(text, "1.1.0") for text in (b"", b"{", b"[]", b'"x"', b"{}", b'{"cniVersion":["0.4.0"]}')],
)
def test_version_echoes_what_it_knows_and_never_fails(stdin: bytes, version: str) -> None:
    supported = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert answer("VERSION", stdin, environment={}) == (0, {"cniVersion": version, "supportedVersions": supported})


@pytest.mark.parametrize("version", VERSIONS)
def test_results_are_of_the_version_asked_for(version: str) -> None:
    result = {"ips": [{"address": "fd00::2/64"}], "interfaces": [{"name": "eth0", "mtu": 1400}]}
    status, written = answer("ADD", {"cniVersion": version, "name": "net"}, lambda _: result)
    assert status == 0
    assert written["cniVersion"] == version
    assert ("version" in written["ips"][0]) == (version in {"0.3.1", "0.4.0"})
    assert ("mtu" in written["interfaces"][0]) == (version == "1.1.0")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (CniError(errors.TRY_AGAIN, "m", "d"), errors.TRY_AGAIN, ("m", "d")),
        (FileNotFoundError(2, "No such file", "/x"), errors.IO_FAILURE, ("/x: No such file", None)),
        (CniError(errors.TRY_AGAIN, "two\nlines \x1b[2J"), errors.TRY_AGAIN, (r"two\nlines \x1b[2J", None)),
        (RecursionError("x"), errors.DECODING_FAILURE, ("standard input is nested too deeply", None)),
        (
            NetlinkError(1, "Operation not permitted", "link x"),
            errors.KERNEL_REFUSED,
            ("link x: Operation not permitted", None),
        ),
        (OSError(28, "No space"), errors.IO_FAILURE, ("[Errno 28] No space", None)),
        (
            ZeroDivisionError("x"),
            errors.INTERNAL,
            ("a bug in the plugin; please report it", "ZeroDivisionError('x')"),
        ),
    ],
)
def test_every_failure_is_an_error_object(raised: Exception, code: int, said: tuple[str, str | None]) -> None:
    def fail(_: Request) -> None:
        raise raised

    status, error = answer("DEL", {"cniVersion": "0.4.0", "name": "net"}, fail)
    assert (status, error["cniVersion"], error["code"]) == (1, "0.4.0", code)
    assert (error["msg"], error.get("details")) == said
