"""What this application server counts of itself, for the monitoring client of its zone (prometheus/agent-web.yml).

A worker counts in a file of its own; whichever worker is asked adds up those of all, the dead ones' included, so that
a counter never falls while the server lives. It is asked on a port of its own; nginx brings visitors to the other.
Manual: https://prometheus.github.io/client_python/multiprocess/
"""
# mypy: disable-error-code="attr-defined,no-untyped-call"

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if FOLDER := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    # Looked at when the package is imported, so it has to be there before.
    os.makedirs(FOLDER, exist_ok=True)

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, event

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PORT = 8001
ROUTE = "wall.route"
"""Where the application leaves the pattern of the request's path, for us to find."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NOT_COUNTED = {"/healthz"}
"""Nobody visits these."""

REQUESTS = Histogram(
    "wall_http_request_duration_seconds",
    "Requests of visitors, from the first line of the application to its last; health checks are not counted.",
    ["route", "method", "status"],
    # A page takes 2 ms; a read gives up after 4 s, a write soon after (docs/timeouts.md).
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_PROGRESS = Gauge(
    "wall_http_requests_in_progress", "Requests that a thread is busy with.", multiprocess_mode="livesum"
)
THREADS = Gauge("wall_threads", "Threads that can be busy with a request.", multiprocess_mode="livesum")
QUERIES = Counter(
    "wall_database_queries_total",
    "Statements that a database node has answered: reads (SELECT), writes (INSERT, UPDATE, DELETE).",
    ["database", "operation"],
)

OPERATIONS = {"SELECT": "read", "INSERT": "write", "UPDATE": "write", "DELETE": "write"}
VERB = re.compile(r"(?:/\*.*?\*/)?\s*(\w*)")
"""The first word of a statement, behind the request's id (logs.py)."""


def measured(app: WSGIApplication) -> WSGIApplication:
    """The application, with its requests counted and timed, and the figures on PORT."""
    figures = published()

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The port is that of the listening socket: nothing that a visitor sends changes it.
        if environ.get("SERVER_PORT") == str(PORT):
            return figures(environ, start_response)
        status = "500"

        def noted(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            nonlocal status
            status = line
            return start_response(line, headers, exc_info)

        begun = time.perf_counter()
        IN_PROGRESS.inc()
        try:
            return app(environ, noted)
        finally:
            IN_PROGRESS.dec()
            route = environ.get(ROUTE, "none")
            if route not in NOT_COUNTED:
                method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "other"
                REQUESTS.labels(route, method, f"{status[0]}xx").observe(time.perf_counter() - begun)

    return wsgi


def published() -> WSGIApplication:
    """Answers with the figures of all workers; without a folder for them, of this process alone."""
    registry = REGISTRY
    if FOLDER:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, FOLDER)
    app: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
    return app


def count_queries(engine: Engine, node: str) -> None:
    """Count every statement that this engine's database node answers."""

    @event.listens_for(engine, "after_cursor_execute")
    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if (verb := VERB.match(statement)) and (operation := OPERATIONS.get(verb[1].upper())):
            QUERIES.labels(node, operation).inc()


def forget(worker: int) -> None:
    """A worker is dead: what it was busy with ended with it. What it has counted stays."""
    if FOLDER:
        mark_process_dead(worker, FOLDER)
