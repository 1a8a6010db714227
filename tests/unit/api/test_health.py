"""/healthz and its like: what they say of their parts."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from netlab.api.server import health


def _fail() -> None:
    raise OSError("no disk")


_WELL: dict[str, health.Check] = {"ping": lambda: None, "database": lambda: None}
_ILL = _WELL | {"database": _fail}


@pytest.mark.parametrize(
    ("checks", "query", "code", "text"),
    [
        (_WELL, "", 200, "ok"),
        (_WELL, "verbose", 200, "[+]ping ok\n[+]database ok\nreadyz check passed\n"),
        (_WELL, "exclude=ping&verbose", 200, "[+]ping excluded: ok\n[+]database ok\nreadyz check passed\n"),
        (_ILL, "", 500, "[+]ping ok\n[-]database failed: reason withheld\nreadyz check failed\n"),
        (_ILL, "exclude=database", 200, "ok"),
        (
            _WELL,
            "exclude=b&exclude=a&verbose",
            200,
            '[+]ping ok\n[+]database ok\nwarn: some health checks cannot be excluded: no matches for "a","b"\n'
            "readyz check passed\n",
        ),
    ],
)
def test_all_parts(checks: dict[str, health.Check], query: str, code: int, text: str) -> None:
    response = health.answer("readyz", checks, QueryParams(query))
    assert (response.status_code, bytes(response.body).decode()) == (code, text)


@pytest.mark.parametrize(("name", "code", "text"), [("ping", 200, "ok"), ("database", 500, "internal server error: ")])
def test_one_part(name: str, code: int, text: str) -> None:
    response = health.answer_for(name, _ILL[name])
    assert response.status_code == code
    assert bytes(response.body).decode().startswith(text)
