from __future__ import annotations

import datetime

import pytest

from netlab.api.schedules import Schedule
from netlab.errors import UsageError


def _at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


NOON = _at("2026-01-01T12:00:00+00:00")  # a Thursday


@pytest.mark.parametrize(
    ("text", "zone", "following"),
    [
        ("* * * * *", None, "2026-01-01T12:01:00+00:00"),
        ("*/5 * * * *", None, "2026-01-01T12:05:00+00:00"),
        ("0 0 ? * MON", None, "2026-01-05T00:00:00+00:00"),
        ("30 4 1,15 * 5", None, "2026-01-02T04:30:00+00:00"),
        ("@hourly", None, "2026-01-01T13:00:00+00:00"),
        ("@weekly", None, "2026-01-04T00:00:00+00:00"),
        ("@yearly", None, "2027-01-01T00:00:00+00:00"),
        ("@every 1h30m", None, "2026-01-01T13:30:00+00:00"),
        ("0 0 * * *", "America/New_York", "2026-01-02T05:00:00+00:00"),
        ("0 0 29 2 *", None, "2028-02-29T00:00:00+00:00"),
    ],
)
def test_the_next_time(text: str, zone: str | None, following: str) -> None:
    assert Schedule(text, zone).next(NOON) == _at(following)


@pytest.mark.parametrize(
    ("text", "since", "last"),
    [
        ("* * * * *", "2026-01-01T11:00:00+00:00", "2026-01-01T12:00:00+00:00"),
        ("5 * * * *", "2026-01-01T11:00:00+00:00", "2026-01-01T11:05:00+00:00"),
        ("5 * * * *", "2026-01-01T11:05:00+00:00", None),
        ("@every 25m", "2026-01-01T11:00:00+00:00", "2026-01-01T11:50:00+00:00"),
        ("@every 2h", "2026-01-01T11:00:00+00:00", None),
    ],
)
def test_the_last_time(text: str, since: str, last: str | None) -> None:
    assert Schedule(text).last(_at(since), NOON) == (None if last is None else _at(last))


@pytest.mark.parametrize(
    ("text", "zone", "complaint"),
    [
        ("* * * *", None, "expected exactly 5 fields, found 4"),
        ("* * * * * *", None, "expected exactly 5 fields, found 6"),
        ("61 * * * *", None, "61 * * * *"),
        ("@every", None, "expected exactly 5 fields"),
        ("@every x", None, "give a time such as 1h30m"),
        ("@daily", "Nowhere/City", "unknown time zone Nowhere/City"),
        ("@daily", "../../etc/passwd", "unknown time zone"),
    ],
)
def test_what_is_no_schedule(text: str, zone: str | None, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        Schedule(text, zone)
    assert complaint in str(refused.value)
