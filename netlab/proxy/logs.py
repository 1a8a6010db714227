"""Structured logs: the event in words, and its details as fields for programs."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any, Literal

Format = Literal["text", "json"]

_FIELDS = "netlab_fields"


def fields(**values: Any) -> dict[str, Any]:
    """The `extra` of a logging call whose record carries these fields."""
    return {_FIELDS: values}


def set_up(form: Format) -> None:
    """Write this process's log to standard error, in this format, from level INFO."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO netlab.proxy.plane: synced family=IPv4 changed=3`; always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        parts = [f"{_time(record)} {record.levelname} {record.name}: {_line(self._words(record))}"]
        parts += [f"{name}={_value(value)}" for name, value in _particulars(record).items()]
        return " ".join(parts)

    def _words(self, record: logging.LogRecord) -> str:
        words = record.getMessage()
        return f"{words}: {self.formatException(record.exc_info)}" if record.exc_info else words


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts`, `level`, `logger`, `msg` and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        values = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps(values | dict(_particulars(record)), default=str)


def _particulars(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return found


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if "\n" in text else text


def _value(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\\\n\r\t') else text
