"""Before a pod's first packet: the ADD waits until the node's enforcer of policies says that they are in force.

The other side is netlab.policy.desk. Without an answer the ADD fails, and the runtime tries again: a container that
policies may be about does not start unjudged.
"""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from netlab.cni.spec import codec, errors
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request

_ARGS = (("namespace", "K8S_POD_NAMESPACE"), ("name", "K8S_POD_NAME"), ("uid", "K8S_POD_UID"))
_PATIENCE = 15.0
"""Seconds to wait for an answer; the enforcer gives up before."""
_LONGEST = 4096


def await_policies(path: str, request: Request, addresses: list[str]) -> None:
    """Wait until the policies of the container's pod are in force. Raises `CniError`.

    Does nothing for a container that is no pod's: its runtime passes no names.
    """
    question: dict[str, object] = {key: request.cni_args.get(name, "") for key, name in _ARGS}
    if not question["uid"]:
        return
    question["addresses"] = addresses
    try:
        answer = codec.loads(_asked(path, codec.dumps(question).encode() + b"\n"))
        error = answer.get("error", "") if isinstance(answer, dict) else f"{answer!r} is no answer"
    except OSError as failure:
        error = f"no enforcer of policies answers: {failure.strerror or failure}; the runtime will try again"
    except ValueError as failure:
        error = str(failure)
    if error:
        raise CniError(errors.TRY_AGAIN, f"policySocket: {path}: {error}")


def _asked(path: str, question: bytes) -> bytes:
    asked = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        asked.settimeout(_PATIENCE)
        asked.connect(path)
        asked.sendall(question)
        answer = b""
        while len(answer) < _LONGEST and (part := asked.recv(_LONGEST)):
            answer += part
        return answer
    finally:
        asked.close()
