"""Gunicorn, which runs the application on every app server (all stages).

Few workers with few threads: the host has two cores for everything, and a thread that waits for
the database costs nothing. Next: wall/__init__.py. Manual: https://docs.gunicorn.org/settings.html
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gunicorn.glogging import Logger
from wall import logs, metrics, whole
from wall.settings import SettingsError, read_settings

try:
    settings = read_settings()
except SettingsError as error:
    sys.exit(f"app: {error}")

# The site, and the figures of the server itself, which only the zone's monitoring client reaches (firewall/web.nft).
bind = ["0.0.0.0:8000", f"0.0.0.0:{metrics.PORT}"]
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
    """One JSON object a request on stdout, and one for whatever else Gunicorn has to say on stderr.

    Made by json rather than by a format string, which a quote in a URL would break.
    """

    def setup(self, cfg: Any) -> None:
        """Logs as Gunicorn sets them up, but for the form."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.Json())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Log a request that was answered; not those of the monitoring client."""
        if environ.get("SERVER_PORT") == str(metrics.PORT):
            return
        line = {
            "time": logs.now(),
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


KNOWS_WITHIN = 2.0  # seconds for a node that doesn't answer; then it is down, and requests have waited long enough
logger_class = JsonLogger
whole.install()
accesslog = "-"
errorlog = "-"


def post_worker_init(worker: Any) -> None:
    """Know the database nodes' roles before the first request comes, or it would find nobody to write to."""
    worker.wsgi.extensions["wall"].topology.wait(lambda snapshot: snapshot.settled, within=KNOWS_WITHIN)
    metrics.THREADS.set(settings.threads)


def child_exit(server: Any, worker: Any) -> None:
    """A worker died: it has no requests under way any more."""
    metrics.forget(worker.pid)
