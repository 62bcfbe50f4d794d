"""Logging: a line a record, as text or as JSON with ECS names; nothing a sender wrote breaks a line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from esb.cli.asking import plain


class Text(logging.Formatter):
    """`2026-03-01T02:10:00.123+00:00 WARNING esb.dispatch target erp: ...`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = f"{moment} {record.levelname} {record.name} {plain(record.getMessage())}"
        if not record.exc_info:
            return line
        # Only newlines break a line: what an error quotes may hold other letters that a terminal obeys.
        trace = self.formatException(record.exc_info).split("\n")
        return "\n  ".join([line, *(plain(item) for item in trace)])


class Json(logging.Formatter):
    """Elastic Common Schema."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
            "process.pid": record.process,
        }
        if record.exc_info:
            said["error.stack_trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode()


class Patient(logging.StreamHandler):  # type: ignore[type-arg]
    """A reader that went away (EPIPE) stops the log, not the bus."""

    lost = 0
    """Lines that could not be written; `esb status` and the metrics show it."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost += 1


def begin(form: str) -> None:
    """Records of esb and its plugins from INFO, of others from WARNING, to standard error."""
    handler = Patient(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("esb", "esb_plugins", "esb_local"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("esb.dispatch").setLevel(logging.WARNING)
