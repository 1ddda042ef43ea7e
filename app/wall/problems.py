"""Errors: problem documents (RFC 9457) under /api, pages in the site's look elsewhere.

Nothing but our own bugs is a 500. A database that can't do something now is a 503 with
Retry-After, and says what still works.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from wall.database import Busy, OutcomeUnknown, Unavailable, WritesHeld

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

_WORDS = {
    400: ("That request makes no sense", "Something in it is missing or malformed."),
    403: ("Not yours to change", "Only its author can change or delete a message."),
    404: ("Nothing on the wall here", "There is no such page, or the message was taken down."),
    405: ("Not that way", "This address doesn't answer that kind of request."),
    413: ("Too much at once", "A request may have 16 KiB at most."),
    500: ("Our mistake", "Something went wrong on our side, and it has been written down."),
}


def register(app: Flask) -> None:
    """Handle what views raise; flask-smorest hands HTTP errors on to `answer` too."""
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(Unavailable, _unavailable)


def answer(error: HTTPException) -> Response:
    """The response for an HTTP error, as a problem document or a page."""
    code = error.code or 500
    if error.response is not None or code < 400:  # a redirect
        return make_response(error.get_response())
    headers = {name: value for name, value in error.get_headers() if name not in ("Content-Type", "Allow")}
    if allowed := getattr(error, "valid_methods", None):
        headers["Allow"] = ", ".join(sorted(allowed))
    # webargs puts what failed validation into `data`.
    data: dict[str, Any] = getattr(error, "data", None) or {}
    fields = data.get("messages")
    detail = "Some values are not acceptable." if fields else str(error.description or "")
    if code == 500:
        detail = _WORDS[500][1]
    if is_api():
        return problem(code, error.name, detail, headers, fields)
    title, words = _WORDS.get(code, (error.name, detail))
    if isinstance(error, CSRFError):
        title, words = (
            "This form has gone stale",
            "Your session ended while the page was open, or its cookie didn't arrive. "
            "Go back, reload the page and send it again.",
        )
    return _page(code, title, words, headers)


def problem(
    status: int,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    errors: dict[str, Any] | None = None,
) -> Response:
    """A problem document."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors:
        document["errors"] = errors
    response = jsonify(document)
    response.status_code = status
    response.content_type = CONTENT_TYPE
    response.headers.update(headers or {})
    return response


def words_for(error: Unavailable) -> tuple[str, str]:
    """Title and explanation of what can't be done now."""
    if isinstance(error, OutcomeUnknown):
        return (
            "We can't tell whether that was stored",
            "The connection to the database broke at the last moment. Look at the wall before you "
            "try again; with an Idempotency-Key a request can safely be repeated as it is.",
        )
    if isinstance(error, WritesHeld):
        return (
            "Writing is paused",
            "No database accepts writes at the moment, so nothing was stored. "
            "Reading goes on; try again in a few seconds.",
        )
    if isinstance(error, Busy):
        return ("Busy", "Too much at once just now; nothing was stored. Try again in a moment.")
    return (
        "The wall can't be reached",
        "No database answers at the moment. Try again in a few seconds.",
    )


def _unavailable(error: Unavailable) -> Response:
    log.warning("503 %s %s: %s %s", request.method, request.path, type(error).__name__, error)
    title, detail = words_for(error)
    headers = {"Retry-After": str(error.retry_after)}
    if is_api():
        return problem(503, "Service Unavailable", f"{title}. {detail}", headers)
    return _page(503, title, detail, headers)


def _page(status: int, title: str, words: str, headers: dict[str, str]) -> Response:
    page = render_template("error.html", status=status, title=title, words=words)
    return make_response(page, status, headers)


def is_api() -> bool:
    """Whether the request is for the API, where errors are documents."""
    return request.path == "/api" or request.path.startswith("/api/")
