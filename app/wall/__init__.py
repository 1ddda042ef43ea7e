"""www.foobar.com: a message wall, as a Flask application behind Gunicorn (gunicorn.conf.py).

create_app wires the parts: settings.py, topology.py (who is primary), database.py (reads, writes),
pages.py (for people), api.py (for programs). compose/ starts it, nginx/ stands in front of it.
The house rules of Flask application factories: https://flask.palletsprojects.com/patterns/appfactories/
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import unquote_to_bytes

from flask import Flask, Response, request, session
from flask.json.provider import DefaultJSONProvider
from flask_login import current_user
from flask_wtf import CSRFProtect
from werkzeug.exceptions import BadRequest
from werkzeug.routing import BaseConverter

from wall import accounts, api, logs, metrics, pages, problems
from wall.database import Database, nodes_used
from wall.idempotency import Idempotency
from wall.journey import journey, served_by
from wall.settings import Settings, read_settings

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
STATIC = Path(__file__).parent / "static"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Json(DefaultJSONProvider):
    """Keys in the order we name them, text as it is."""

    sort_keys = False
    ensure_ascii = False


class IdConverter(BaseConverter):
    """`<id:…>`: up to eighteen digits, so that what MySQL could not hold is a 404 without a query.

    By the pattern alone: refusing in to_python would be a 405 where other methods share the rule.
    """

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)


def create_app(settings: Settings | None = None, database: Database | None = None) -> Flask:
    """The application. Tests give `settings` and a `database` of their own; Gunicorn neither.

    Opens no connection and starts no thread: that happens with the first use in each worker.
    """
    logs.to_stderr()
    settings = settings or read_settings()
    database = database or Database.connect(settings)
    idempotency = Idempotency(database, settings.session_key)

    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=settings.session_key,
        # A browser takes a cookie of this name only by HTTPS, for this very host: none can be slipped in from beside.
        SESSION_COOKIE_NAME="__Host-session" if settings.cookie_secure else "session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.cookie_secure,
        MAX_CONTENT_LENGTH=16 * 1024,
        WTF_CSRF_TIME_LIMIT=None,  # a token lives as long as its session
    )
    app.json = Json(app)
    app.wsgi_app = metrics.measured(app.wsgi_app)  # type: ignore[assignment, method-assign]
    app.extensions["wall"] = database
    app.url_map.converters["id"] = IdConverter
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(utc=utc, iso=iso)
    app.jinja_env.globals.update(
        current_user=current_user, asset=asset, way=lambda: journey(database, settings.server_name)
    )

    @app.before_request
    def begin() -> None:
        logs.begin(request.headers.get("X-Request-ID"))
        nodes_used.set([])
        request.environ[metrics.ROUTE] = request.url_rule.rule if request.url_rule else "none"
        if request.mimetype == "application/x-www-form-urlencoded":
            try:  # Werkzeug would keep bytes that aren't UTF-8 as "%ff", which nobody typed
                unquote_to_bytes(request.get_data()).decode()
            except UnicodeDecodeError as error:
                raise BadRequest("The form is not UTF-8 text.") from error

    login = accounts.login_manager(database)
    login.login_view = "pages.login"
    login.login_message = None
    login.init_app(app, add_context_processor=False)  # it would load the user on error pages too
    problems.register(app)
    app.register_blueprint(pages.blueprint(app, database, idempotency))
    csrf = CSRFProtect(app)
    csrf.exempt(api.blueprint(app, database, idempotency, settings.server_name))

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Served-By"] = served_by(settings.server_name)
        response.headers.update(HEADERS)
        if request.endpoint != "static" and "Cache-Control" not in response.headers:
            private = "Authorization" in request.headers or (request.cookies and session)
            response.headers["Cache-Control"] = "private, no-store" if private else "no-cache"
            response.vary.add("Authorization" if problems.is_api() else "Cookie")
        return response

    @app.get("/healthz")
    def healthz() -> Response:
        """Whether this server can answer at all, and the version that it runs.

        The database is not asked, or one that is down would take every app server out with it.
        """
        return Response("ok\n", mimetype="text/plain", headers={"X-App-Version": settings.version})

    return app


def utc(moment: datetime) -> str:
    """A time for people, as in `21 Nov 2025, 02:10`."""
    month = MONTHS[moment.month - 1]  # strftime would cost five times as much, twenty times a page
    return f"{moment.day} {month} {moment.year}, {moment.hour:02}:{moment.minute:02}"


def iso(moment: datetime) -> str:
    """A time for programs, as in `2025-11-21T02:10:00Z`."""
    return f"{moment.isoformat()}Z"


@cache
def asset(name: str) -> str:
    """The URL of a static file, with its digest, so that browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return f"/static/{name}?v={digest}"
