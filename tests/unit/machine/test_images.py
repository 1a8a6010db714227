"""What of the built-in images can be told without a network."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.machine import images
from netlab.machine.images import agnhost, flags, grpc_health, http, mounttest, netexec, porter, webserver


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("pause", "pause"),
        ("registry.k8s.io/pause:3.9", "pause"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.47", "agnhost"),
        ("localhost:5000/agnhost", "agnhost"),
        ("agnhost@sha256:0123", "agnhost"),
        ("localhost:5000/a/agnhost:1@sha256:0123", "agnhost"),
    ],
)
def test_names_of_images(reference: str, name: str) -> None:
    assert images.name_of(reference) == name


@pytest.mark.parametrize(
    ("image", "command", "args", "expected"),
    [
        ("agnhost", [], [], ["/agnhost", "pause"]),
        ("agnhost", [], ["netexec"], ["/agnhost", "netexec"]),
        ("agnhost", ["sh"], [], ["sh"]),
        ("mysql", ["sh"], ["-c", "true"], ["sh", "-c", "true"]),
        ("nginx:1.27", [], [], ["/usr/sbin/nginx", "-g", "daemon off;"]),
        ("httpd", [], [], ["/usr/local/bin/httpd-foreground"]),
        ("busybox", [], [], ["sh"]),
        ("registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0", [], [], ["sh"]),
        ("pause", [], [], ["/pause"]),
    ],
)
def test_command_and_args_replace_entrypoint_and_cmd(
    image: str, command: list[str], args: list[str], expected: list[str]
) -> None:
    built_in = images.built_in(image, command)
    assert images.command_line(built_in.entrypoint, built_in.cmd, command, args) == expected


@pytest.mark.parametrize(("reference", "command"), [("mysql", []), ("mysql:8", ["sh"]), ("a.example/mysql", ["sh"])])
def test_an_unknown_image_says_what_brings_it(reference: str, command: list[str]) -> None:
    with pytest.raises(
        images.ImageNotPresentError,
        match=f"image pull {reference}.*agnhost, busybox, .*httpd, kitten, nautilus, netlab-ingress, nginx",
    ):
        images.built_in(reference, command)


def test_a_bare_name_with_a_command_is_the_hosts_file_tree() -> None:
    assert images.built_in("host", ["ip", "link"]) == images.Image(())


def _asked(path: str, method: str = "GET", **form: str) -> http.Request:
    return http.Request(method, path, path, form, {}, "192.0.2.1", 80)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/index.html", 200),
        ("GET", "/sub/", 200),
        ("GET", "/else", 404),
        ("GET", "/../secret", 404),
        ("GET", "//../../secret", 404),
        ("POST", "/", 405),
    ],
)
def test_a_web_server_has_the_files_of_a_folder(tmp_path: Path, method: str, path: str, status: int) -> None:
    (tmp_path / "secret").write_text("none of its files")
    for folder in ("htdocs", "htdocs/sub"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "index.html").write_text("page")
    response = webserver.document_of(str(tmp_path / "htdocs"), _asked(path, method))
    assert (response.status, response.text == "page") == (status, status == 200)
    assert ("Content-Type" in response.headers) == (status == 200)


@pytest.mark.parametrize(
    ("seconds", "path", "status", "text"),
    [
        (9.5, "/healthz", 200, "ok"),
        (10.5, "/healthz", 500, "error: 10.5"),
        (3.0, "/started", 200, "3.0s"),
        (0, "/", 404, ""),
    ],
)
def test_a_server_is_alive_for_ten_seconds(seconds: float, path: str, status: int, text: str) -> None:
    response = webserver.health_after(seconds, _asked(path))
    assert response.status == status
    assert text in response.text
    assert webserver.health_after(seconds, _asked("/redirect", loc="/x")).headers == {"Location": "/x"}


@pytest.fixture
def own_umask() -> Iterator[None]:
    mask = os.umask(0)
    yield
    os.umask(mask)


@pytest.mark.usefixtures("own_umask")
def test_a_volume_is_written_and_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new"
    flags = [f"--{name}={path}" for name in ("file_perm", "file_mode", "file_owner", "new_file_0660")]
    # Whatever the order of the flags, what is to be told of is written first.
    assert agnhost.main(["/agnhost", "mounttest", *flags, f"--fs_type={tmp_path}"], {}) == 0
    told = capfd.readouterr().out.splitlines()
    assert told[0].startswith(f'mount type of "{tmp_path}": ')
    assert told[1:] == [
        f'content of file "{path}": mount-tester new file',
        "",
        f'mode of file "{path}": -rw-rw----',
        f'perms of file "{path}": -rw-rw----',
        f'owner UID of "{path}": {os.geteuid()}',
        f'owner GID of "{path}": {os.getegid()}',
    ]
    assert agnhost.main(["/agnhost", "mounttest", f"--file_content={tmp_path / 'absent'}"], {}) == 1
    assert "No such file" in capfd.readouterr().out
    looked_for = f"--file_content_in_loop={tmp_path / 'absent'}"
    assert agnhost.main(["/agnhost", "mounttest", "--retry_time=1", looked_for], {}) == 1
    assert capfd.readouterr().out.startswith(f"Error reading file {tmp_path / 'absent'}: No such file")
    assert agnhost.main(["/agnhost", "entrypoint-tester", "a", "b"], {}) == 0
    assert capfd.readouterr().out == "[/agnhost entrypoint-tester a b]\n"


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (stat.S_IFREG | 0o644, "-rw-r--r--"),
        (stat.S_IFDIR | 0o1777, "dtrwxrwxrwx"),
        (stat.S_IFDIR | 0o2755, "dgrwxr-xr-x"),
        (0o4711, "urwx--x--x"),
    ],
)
def test_modes_are_told_as_go_does(mode: int, text: str) -> None:
    assert mounttest.mode_text(mode) == text


def test_files_are_served(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("content")
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "c")
    found = [webserver.file_at(str(tmp_path / name)) for name in ("b", ".", "c", "d", "\0")]
    assert [each.status for each in found] == [200, 200, 404, 404, 404]
    assert webserver.served_file(str(tmp_path / "b"), _asked("/b", "POST")).status == 405
    assert [each.text for each in found[:2]] == ["content", "<pre>\na\nb\nc\n</pre>\n"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("300ms", 0.3), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("10us", 1e-5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert netexec.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1s1", "1 s", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        netexec.parse_duration(text)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("10.244.1.5", 41234), "10.244.1.5:41234"),
        (("::ffff:10.244.1.5", 41234, 0, 0), "10.244.1.5:41234"),
        (("fd00::1", 80, 0, 0), "[fd00::1]:80"),
        (("fe80::1%eth0", 80, 0, 2), "[fe80::1]:80"),
    ],
)
def test_addresses_are_printed_as_go_prints_them(address: tuple[object, ...], text: str) -> None:
    assert http.format_address(address) == text


@pytest.mark.parametrize(
    ("arguments", "values", "others"),
    [
        ([], {"port": 80, "tcp": False}, []),
        (["--port", "81", "x"], {"port": 81, "tcp": False}, ["x"]),
        (["--port=-1", "--tcp"], {"port": -1, "tcp": True}, []),
        (["--tcp=false", "--", "--port"], {"port": 80, "tcp": False}, ["--port"]),
    ],
)
def test_flags(arguments: list[str], values: dict[str, object], others: list[str]) -> None:
    assert flags.parse(arguments, {"port": (flags.port, 80), "tcp": (flags.boolean, False)}) == (values, others)


@pytest.mark.parametrize(
    "arguments", [["--colour"], ["--port"], ["--port", "x"], ["--port", "0"], ["--port=65536"], ["--tcp=yes"]]
)
def test_wrong_flags(arguments: list[str]) -> None:
    with pytest.raises(flags.FlagError, match=arguments[0].partition("=")[0]):
        flags.parse(arguments, {"port": (flags.port, 80), "tcp": (flags.boolean, False)})


def test_a_head_is_parsed() -> None:
    head = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Colour:  blue "
    assert http.parse_head(head) == ("GET", "/a?b=c", "HTTP/1.1", {"host": "x", "x-colour": "blue"})


def test_a_response_cannot_carry_a_second_one() -> None:
    encoded = http.encode_response(http.Response(headers={"Location": "/\r\n\r\nx"}), body=True, keep_alive=True)
    assert encoded.count(b"\r\n\r\n") == 1


def test_porter_serves_what_the_variables_name() -> None:
    env = {
        "SERVE_PORT_80": "a",
        "SERVE_TCP_PORT_81": "b",
        "SERVE_UDP_PORT_53": "c",
        "HOME": "/",
        "MY_SERVE_PORT_1": "d",
        "SERVE_TLS_PORT_443": "e",
        "SERVE_SCTP_PORT_9": "f",
    }
    assert [(each.protocol, each.port, each.text) for each in porter.served(env)] == [
        ("TCP", 80, "a"),
        ("TCP", 81, "b"),
        ("UDP", 53, "c"),
        ("TLS", 443, "e"),
        ("SCTP", 9, "f"),
    ]


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("SERVE_PORT_0", "SERVE_PORT_0: '0' is no port"),
        ("SERVE_UDP_PORT_web", "SERVE_UDP_PORT_web: 'web' is no port"),
    ],
)
def test_porter_refuses_what_it_cannot_serve(variable: str, complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert agnhost.main(["/agnhost", "porter"], {variable: "x"}) == 1
    assert capfd.readouterr().err.startswith(f"Error: {complaint}")


def test_agnhost_has_the_copy_that_its_image_has() -> None:
    assert images.program("/agnhost-2") is agnhost.main


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x05\x0a\x03web", 0),
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x00", 5),
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x05\x0a\x03cat", 5),
        ("/grpc.health.v1.Health/Check", b"\x01\0\0\0\x05\x0a\x03web", 3),
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x05\x0a\x04web", 3),
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x01\x0a", 3),
        ("/grpc.health.v1.Health/Check", b"", 3),
        ("/grpc.health.v1.Health/Watch", b"\0\0\0\0\x05\x0a\x03web", 12),
    ],
)
def test_what_a_health_service_answers(path: str, message: bytes, code: int) -> None:
    health = grpc_health.Health("web", unhealthy_after=-1, started=0.0)
    found, body = health.check(path, message)
    assert (found, body == b"\0\0\0\0\x02\x08\x01") == (code, code == 0)


@pytest.mark.parametrize(("unhealthy_after", "told", "well"), [(-1, None, True), (0, None, False), (-1, False, False)])
def test_how_a_service_is(unhealthy_after: float, told: bool | None, well: bool) -> None:
    assert grpc_health.Health("", unhealthy_after, time.monotonic(), told).is_serving() == well
