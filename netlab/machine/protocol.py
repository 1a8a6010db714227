"""The protocol of a machine's socket: newline-delimited JSON, one reply for each request, in order.

    -> {"op": "container.kill", "id": "web", "signal": 15}
    <- {"ok": null}   or   {"error": "container web: no such container", "errno": 2}

A connection carries one request at a time; for several at once, open several. `open` and `container.attach` pass file
descriptors with their reply (SCM_RIGHTS), `container.stream` with its request. After `events` the connection carries
only exits, one per line. Times are seconds since the epoch, as floats. pid 1 of every machine loads this module, so it
imports little.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from netlab.machine import security_context
from netlab.machine.security_context import NamespaceOption, SecurityContext

MACHINE_SPAWN = "machine.spawn"
SERVICE_RUN = "service.run"
SANDBOX_CREATE = "sandbox.create"
SANDBOX_REMOVE = "sandbox.remove"
CONTAINER_RUN = "container.run"
CONTAINER_KILL = "container.kill"
CONTAINER_REMOVE = "container.remove"
CONTAINER_EXEC = "container.exec"
CONTAINER_STREAM = "container.stream"
CONTAINER_ATTACH = "container.attach"
CONTAINER_ENVIRONMENT = "container.environment"
CONTAINER_COUNTERS = "container.counters"
IMAGE_STATUS = "image.status"
IMAGE_PULL = "image.pull"
STATE = "state"
OPEN = "open"
EVENTS = "events"

LINE_LIMIT = 4 * 1024 * 1024
"""The longest request or reply, in bytes: room for a container's /etc/hosts and environment, or the state of
thousands."""

OUTPUT_LIMIT = 64 * 1024
"""How much output of an exec is kept, in bytes; the rest is read and dropped."""

STREAMS = ("stdin", "stdout", "stderr")
"""The standard streams, by descriptor."""

FIRST_TO_GO = 1000
"""oom_score_adj of a container whose pod asks for no memory (QOSClass BestEffort)."""
_LEAST_SCORE = -1000

_LONGEST_SHOWN = 80
_MOST = (1 << 53) - 1  # bytes, or thousandths of a processor; exact in every reader of JSON

_PID_MODES = (security_context.CONTAINER, security_context.POD, security_context.NODE, security_context.TARGET)
_SECCOMP = (security_context.RUNTIME_DEFAULT, security_context.UNCONFINED)
_LAST_ID = (1 << 31) - 1
_PROPAGATIONS = (security_context.PRIVATE, security_context.HOST_TO_CONTAINER, security_context.BIDIRECTIONAL)
_IPC_MODES = (security_context.POD, security_context.NODE)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class InvalidRequestError(ValueError):
    """An invalid request; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the machine, and what is mounted below it, that a container has at a path of its own.

    Both paths are absolute. `inside` is a path in the source, which no link there leads out of; empty: all of it.
    `recursive_read_only` makes read-only what is mounted below it, too. `propagation` says who sees what is mounted
    there later; BIDIRECTIONAL asks for a source on a shared mount.
    """

    source: str
    target: str
    read_only: bool = False
    inside: str = ""
    recursive_read_only: bool = False
    propagation: str = security_context.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to run.

    `sandbox` is the id of the sandbox whose network (and IPC) namespace it joins; None is the machine's own
    (hostNetwork). `command` and `args` are Kubernetes': if either or both are empty, the image's defaults apply. If
    the text of /etc/hosts or /etc/resolv.conf is None, the host's file stays. `log` is an absolute path; output is
    appended to it, in the form of CRI's logs. With `stdin`, the container has an open standard input, which ends with
    the first that attached to it if `stdin_once`; with `terminal`, all its streams are one terminal. `memory_limit` is
    in bytes, `cpu_limit` in thousandths of a processor; they are enforced where the host lets the lab have cgroups.
    The greater `oom_score_adj` (proc(5)), the sooner the kernel ends it when memory runs out: never later than the lab.
    `security_context` says which namespaces it shares. `labels` mean nothing to the machine; `state` returns them.
    """

    id: str
    image: str
    log: str
    sandbox: str | None = None
    command: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    hostname: str | None = None
    hosts: str | None = None
    resolv_conf: str | None = None
    mounts: list[Mount] = field(default_factory=list)
    memory_limit: int | None = None
    cpu_limit: int | None = None
    oom_score_adj: int = FIRST_TO_GO
    stdin: bool = False
    stdin_once: bool = False
    terminal: bool = False
    security_context: SecurityContext = field(default_factory=SecurityContext)
    labels: dict[str, str] = field(default_factory=dict)

    def as_request(self) -> dict[str, Any]:
        """The fields of `container.run`."""
        request = shallow(self) | {"mounts": [shallow(each) for each in self.mounts]}
        del request["security_context"]
        if self.security_context != SecurityContext():
            request["security_context"] = asdict(self.security_context)
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """A container as the machine knows it: running, or exited and not yet removed.

    `exit_code` is None while it runs; a container ended by signal n has `signal` n and exit code 128+n. `pid` is in
    the machine's pid namespace, and 0 once it has exited, or if it is an engine's. `image_id` says which image it has
    (`ImageStatus`). `out_of_memory` says that the kernel ended a process of it because it reached its memory limit, or
    the lab's.
    """

    id: str
    pid: int
    image: str
    sandbox: str | None
    started_at: float
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    image_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.exit_code is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerExit:
    """The end of a container, or of the one that holds a sandbox, as reported by the event stream."""

    id: str
    exit_code: int
    signal: int | None
    finished_at: float
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """A container that has just been started; its command is running. `image_id` is as in its status."""

    pid: int
    started_at: float
    image_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatus:
    """An image that containers can have.

    `id` is its name and the digest of its manifest, or the digest of its configuration where it comes from no registry;
    empty for a built-in one, which nothing brings. `user` is who runs its containers, as it says ("", USER or
    USER:GROUP).
    """

    id: str
    built_in: bool = False
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a command in a container or on a machine starts with: environment, working directory and user.

    The user is as an image names it (`machine.users`); None is root, on the host's file tree.
    """

    env: dict[str, str]
    cwd: str = "/"
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """The end of a command run in a container: standard output and error together, cut at OUTPUT_LIMIT."""

    exit_code: int
    output: bytes
    timed_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """A supervised process of the machine. `pid` is None while it waits to be restarted."""

    name: str
    pid: int | None
    restarts: int
    started_at: float
    last_exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """Everything that a machine runs. `machines` maps the names of child machines to their pids."""

    name: str
    sandboxes: list[str]
    containers: list[ContainerStatus]
    services: list[ServiceStatus]
    machines: dict[str, int]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read the reply to `state`."""
        return cls(
            name=value["name"],
            sandboxes=value["sandboxes"],
            containers=[ContainerStatus(**each) for each in value["containers"]],
            services=[ServiceStatus(**each) for each in value["services"]],
            machines=value["machines"],
        )


def shallow(value: Any) -> dict[str, Any]:
    """The fields of a dataclass; dataclasses.asdict copies what they hold, which took a sixth of a kubelet's time."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


class Request:
    """A request from a client, read field by field; every invalid field is an `InvalidRequestError`."""

    def __init__(self, value: Any, descriptors: Sequence[int] = ()) -> None:
        """`descriptors` came with the request; they are closed after it has been handled."""
        if not isinstance(value, dict):
            raise InvalidRequestError("request: expected a JSON object")
        self._value: dict[str, Any] = value
        self.descriptors = descriptors

    def text(self, key: str) -> str:
        """A string without NUL, which the kernel allows in no path, argument or variable."""
        return _text(key, self._value.get(key))

    def optional_text(self, key: str) -> str | None:
        """A string, or None when absent or null."""
        return None if self._value.get(key) is None else self.text(key)

    def name(self, key: str) -> str:
        """An id: it becomes part of a path and of messages."""
        return _name(key, self._value.get(key))

    def optional_name(self, key: str) -> str | None:
        """An id, or None when absent or null."""
        return None if self._value.get(key) is None else self.name(key)

    def path(self, key: str) -> str:
        """An absolute path."""
        text = self.text(key)
        if not text.startswith("/"):
            raise InvalidRequestError(f"{key}: {shown(text)} is not an absolute path")
        return text

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer between `low` and `high`, both included; the default, if any, when absent."""
        value = self._value.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidRequestError(f"{key}: expected an integer from {low} to {high}, not {shown(value)}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        """An integer between `low` and `high`, or None when absent or null."""
        return None if self._value.get(key) is None else self.integer(key, low, high)

    def seconds(self, key: str) -> float:
        """A positive, finite number of seconds, at most a day."""
        value = self._value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
            raise InvalidRequestError(f"{key}: expected seconds from 0 to 86400, not {shown(value)}")
        return float(value)

    def flag(self, key: str) -> bool:
        """A truth value, false when absent."""
        value = self._value.get(key, False)
        if not isinstance(value, bool):
            raise InvalidRequestError(f"{key}: expected true or false, not {shown(value)}")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings, empty when absent."""
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise InvalidRequestError(f"{key}: expected a list of strings, not {shown(value)}")
        return [_text(f"{key}[{i}]", item) for i, item in enumerate(value)]

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None when absent."""
        return tuple(self.texts(key)) if key in self._value else None

    def mapping(self, key: str) -> dict[str, str]:
        """A mapping of strings to strings, empty when absent."""
        value = self._value.get(key, {})
        if not isinstance(value, dict):
            raise InvalidRequestError(f"{key}: expected a mapping of strings, not {shown(value)}")
        return {_text(key, k): _text(f"{key}[{k}]", v) for k, v in value.items()}

    def environment(self, key: str) -> dict[str, str]:
        """A mapping whose keys can be names of environment variables."""
        mapping = self.mapping(key)
        for name in mapping:
            if not name or "=" in name:
                raise InvalidRequestError(f"{key}: {shown(name)} is not a valid variable name")
        return mapping

    def mounts(self, key: str) -> list[Mount]:
        """A list of mounts, empty when absent."""
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise InvalidRequestError(f"{key}: expected a list of mounts, not {shown(value)}")
        read = []
        for index, item in enumerate(value):
            each = Request(item)
            try:
                read.append(
                    Mount(
                        source=each.path("source"),
                        target=each.path("target"),
                        read_only=each.flag("read_only"),
                        inside=each.optional_text("inside") or "",
                        recursive_read_only=each.flag("recursive_read_only"),
                        propagation=each.choice("propagation", _PROPAGATIONS, security_context.PRIVATE),
                    )
                )
            except InvalidRequestError as error:
                raise InvalidRequestError(f"{key}[{index}].{error}") from None
        return read

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of the choices; the default when absent."""
        value = self._value.get(key, default)
        if value not in choices:
            raise InvalidRequestError(f"{key}: expected one of {', '.join(choices)}, not {shown(value)}")
        return str(value)

    def ids(self, key: str) -> list[int]:
        """A list of ids of groups, empty when absent."""
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise InvalidRequestError(f"{key}: expected a list of ids, not {shown(value)}")
        return [Request({key: each}).integer(key, 0, _LAST_ID) for each in value]

    def security_context(self, key: str) -> SecurityContext:
        """A container's security context; the default when absent."""
        if key not in self._value:
            return SecurityContext()
        try:
            asked = Request(self._value[key])
            options = Request(asked._value.get("namespace_options", {}))
            return SecurityContext(
                namespace_options=NamespaceOption(
                    pid=options.choice("pid", _PID_MODES, security_context.CONTAINER),
                    ipc=options.choice("ipc", _IPC_MODES, security_context.POD),
                    target_id=options.optional_name("target_id"),
                ),
                privileged=asked.flag("privileged"),
                add_capabilities=asked.texts("add_capabilities"),
                drop_capabilities=asked.texts("drop_capabilities"),
                run_as_user=asked.optional_integer("run_as_user", 0, _LAST_ID),
                run_as_group=asked.optional_integer("run_as_group", 0, _LAST_ID),
                supplemental_groups=asked.ids("supplemental_groups"),
                readonly_rootfs=asked.flag("readonly_rootfs"),
                non_root=asked.flag("non_root"),
                seccomp=asked.choice("seccomp", _SECCOMP, security_context.RUNTIME_DEFAULT),
                sysctls=asked.mapping("sysctls"),
                unmasked=asked.flag("unmasked"),
            )
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{key}.{error}") from None

    def container_spec(self) -> ContainerSpec:
        """The request of `container.run`: the fields of a ContainerSpec."""
        unknown = set(self._value) - {"op"} - {each.name for each in fields(ContainerSpec)}
        if unknown:
            raise InvalidRequestError(f"{min(unknown)[:_LONGEST_SHOWN]}: no such field of a container")
        return ContainerSpec(
            id=self.name("id"),
            image=self.text("image"),
            log=self.path("log"),
            sandbox=self.optional_name("sandbox"),
            command=self.texts("command"),
            args=self.texts("args"),
            env=self.environment("env"),
            cwd=None if self._value.get("cwd") is None else self.path("cwd"),
            hostname=self.optional_text("hostname"),
            hosts=self.optional_text("hosts"),
            resolv_conf=self.optional_text("resolv_conf"),
            mounts=self.mounts("mounts"),
            memory_limit=self.optional_integer("memory_limit", 1, _MOST),
            cpu_limit=self.optional_integer("cpu_limit", 1, _MOST),
            oom_score_adj=self.integer("oom_score_adj", _LEAST_SCORE, FIRST_TO_GO, FIRST_TO_GO),
            stdin=self.flag("stdin"),
            stdin_once=self.flag("stdin_once"),
            terminal=self.flag("terminal"),
            security_context=self.security_context("security_context"),
            labels=self.mapping("labels"),
        )


def shown(value: Any) -> str:
    """A value in a form that fits a message of one line, however large or deep it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidRequestError(f"{key}: expected a string without NUL, not {shown(value)}")
    return value


def _name(key: str, value: Any) -> str:
    text = _text(key, value)
    if not _NAME.fullmatch(text):
        raise InvalidRequestError(f"{key}: {shown(text)} is not a name (letters, digits, '_', '.', '-'; at most 128)")
    return text
