"""What this server writes of itself: one JSON object a line, with the id that the request has in every log on its way.

The id also stands before each SQL statement of the request, as a comment, so that a database's own statistics know it
(`make logs REQUEST=…`). The tiers in front give it; no visitor chooses it.
"""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, event

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""That of the current request; "" outside of one."""

ID = re.compile(r"[0-9A-Za-z-]{8,64}")
"""All of it harmless in SQL, whoever gave it."""


def begin(given: str | None) -> None:
    """Take the id of the request that begins; what is no id is none."""
    request_id.set(given if given and ID.fullmatch(given) else "")


def now() -> str:
    """The time as in the logs of all tiers, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Json(logging.Formatter):
    """A message as one line, an exception's many lines included."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {"time": now(), "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if ident := request_id.get():
            line["id"] = ident
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def to_stderr() -> None:
    """Write what all loggers say like this."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def comment_queries(engine: Engine) -> None:
    """Have every statement of this engine begin with the request's id."""

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def comment(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _many: bool) -> tuple[str, Any]:
        ident = request_id.get()
        # First, for of a statement's text the database keeps 64 characters (mysql/my.cnf).
        return (f"/* {ident} */ {statement}" if ident else statement), parameters
