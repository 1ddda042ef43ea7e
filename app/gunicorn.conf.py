"""Gunicorn, which runs the application on every app server (all stages).

Few workers with few threads: the host has two cores for everything, and a thread that waits for
the database costs nothing. Next: wall/__init__.py. Manual: https://docs.gunicorn.org/settings.html
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from gunicorn.glogging import Logger
from wall.settings import SettingsError, read_settings

try:
    settings = read_settings()
except SettingsError as error:
    sys.exit(f"app: {error}")

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = settings.workers
threads = settings.threads

# Load once, fork then: workers share memory, and a missing setting stops the master at once.
# The database's monitors are threads, which no fork would carry along: each worker starts its own.
preload_app = True

# Longer than nginx keeps an idle connection, so that it is never us who close one it is just using.
keepalive = 75
timeout = 30  # a worker whose main loop says nothing for so long is replaced
graceful_timeout = 10
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the heartbeat file must not wait for a disk
control_socket_disable = True  # the root file system is read-only, and nobody here asks it

forwarded_allow_ips = "*"  # only our web tier reaches us, and it sets X-Forwarded-Proto itself
limit_request_line = 8190  # nginx's own limit; what is too long then gets a page, not a bare line


class JsonLogger(Logger):  # type: ignore[misc]
    """One JSON object a request on stdout.

    Made by json rather than by a format string, which a quote in a URL would break.
    """

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Log a request that was answered."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": environ.get("HTTP_X_REQUEST_ID"),
            "client": environ.get("HTTP_X_FORWARDED_FOR", environ.get("REMOTE_ADDR")),
            "method": environ.get("REQUEST_METHOD"),
            "uri": environ.get("RAW_URI"),
            "status": resp.status_code,
            "bytes": getattr(resp, "sent", None),
            "ms": round(request_time.total_seconds() * 1000, 1),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


logger_class = JsonLogger
accesslog = "-"
errorlog = "-"


def post_worker_init(worker: Any) -> None:
    """Begin to ask the database nodes for their roles before the first request does."""
    worker.wsgi.extensions["wall"].topology.start()
