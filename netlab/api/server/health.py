"""/healthz, /livez and /readyz: whether each part of the server is well, in upstream's form."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, Response

ENDPOINTS = ("healthz", "livez", "readyz")

Check = Callable[[], None]
"""Raises what is wrong."""

log = logging.getLogger(__name__)


def answer(endpoint: str, checks: Mapping[str, Check], params: QueryParams) -> Response:
    """All parts together: `ok`, or with `verbose`, and whenever one is not well, a line for each.

    `exclude` leaves a part out.
    """
    excluded = set(params.getlist("exclude"))
    lines, failed = [], False
    for name, check in checks.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif (error := _error(name, check)) is None:
            lines.append(f"[+]{name} ok")
        else:
            failed = True
            log.warning("%s: %s: %s", endpoint, name, error)
            lines.append(f"[-]{name} failed: reason withheld")
    if unknown := sorted(excluded - checks.keys()):
        quoted = ",".join(f'"{name}"' for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
    if not failed and "verbose" not in params:
        return PlainTextResponse("ok")
    lines.append(f"{endpoint} check {'failed' if failed else 'passed'}")
    return PlainTextResponse("\n".join(lines) + "\n", 500 if failed else 200)


def answer_for(name: str, check: Check) -> Response:
    """One part."""
    error = _error(name, check)
    return PlainTextResponse("ok") if error is None else PlainTextResponse(f"internal server error: {error}\n", 500)


def _error(name: str, check: Check) -> Exception | None:
    try:
        check()
    except Exception as error:
        return error
    return None
