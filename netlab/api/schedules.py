"""Schedules as a CronJob's: five fields, or a name for some of them (robfig/cron, which upstream uses)."""

from __future__ import annotations

import datetime
import re
import zoneinfo

from cronsim import CronSim, CronSimError

from netlab.errors import UsageError

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_FIELDS = 5


class Schedule:
    """When something is due. Raises `UsageError` for a text that is no schedule, or a time zone that is unknown."""

    def __init__(self, text: str, zone: str | None = None) -> None:
        self._zone = _zone(zone)
        self._every = _interval(text) if text.startswith("@every ") else None
        self._fields = _NAMED.get(text, text).replace("?", "*")
        if self._every is None:
            if len(self._fields.split()) != _FIELDS:
                raise UsageError(f"expected exactly {_FIELDS} fields, found {len(text.split())}: [{text}]")
            try:
                CronSim(self._fields, datetime.datetime.now(self._zone))
            except CronSimError as error:
                raise UsageError(f"{text!r}: {error}") from None

    def next(self, after: datetime.datetime) -> datetime.datetime | None:
        """The first time after another one; None if there is none within the next decades."""
        if self._every is not None:
            return after.replace(microsecond=0) + self._every
        return next(CronSim(self._fields, after.astimezone(self._zone)), None)

    def last(self, since: datetime.datetime, until: datetime.datetime) -> datetime.datetime | None:
        """The last time after `since` and not after `until`; None if there is none."""
        if self._every is not None:
            whole = (until - since) // self._every
            return since.replace(microsecond=0) + whole * self._every if whole > 0 else None
        # The library goes back from a time, which is not among what it gives.
        second = datetime.timedelta(seconds=1)
        found = next(CronSim(self._fields, until.astimezone(self._zone) + second, reverse=True), None)
        return found if found is not None and found > since else None


def _zone(name: str | None) -> datetime.tzinfo:
    if name is None:
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"unknown time zone {name}") from None


def _interval(text: str) -> datetime.timedelta:
    match = _DURATION.fullmatch(text.removeprefix("@every ").strip())
    hours, minutes, seconds = (int(each or 0) for each in match.groups()) if match else (0, 0, 0)
    interval = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not interval:
        raise UsageError(f"{text!r}: give a time such as 1h30m after @every")
    return interval
