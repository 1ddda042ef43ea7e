"""Takes Alertmanager's messages and writes each alert as a line of JSON on its own log: `make alerts` shows them.

Runs as pager from stage 2 on. A person's telephone would be here; a place to read what it would have said will do. One
alert always fires, and is no line: that it is heard no more is one, for then nobody would be told of anything.
Read next: alertmanager.yml. The format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

import json
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST = 1 << 20
"""Bytes of a message."""
PORT = 8088
WATCHDOG = "Watchdog"
"""The alert that always fires (alerts.yml)."""
SILENCE = 45.0
"""Seconds without news of it. A healthy stage has some every 25 at most: the collector tells every 15, Alertmanager
passes it on within 10 (compose/monitoring.yaml, alertmanager.yml).
"""


class Watch:
    """Listens for the alert that always fires."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = ""
        self.heard = time.monotonic()
        self.silent = False

    def hear(self, at: str) -> None:
        """It says when the collector worked it out. The same again is no news: Alertmanager repeats it by itself."""
        with self.lock:
            if at == self.at:
                return
            self.at, self.heard = at, time.monotonic()
            if self.silent:
                write(self.line("resolved"))
            self.silent = False

    def look(self) -> None:
        """Say so, once, when it has been silent for too long."""
        with self.lock:
            if not self.silent and time.monotonic() - self.heard > SILENCE:
                self.silent = True
                write(self.line("firing"))

    def line(self, status: str) -> str:
        """As if it were an alert like any other, which nobody else can tell."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        notes = {"summary": f"Nothing is heard of prometheus or alertmanager for {SILENCE:.0f} s.", "look": "make ps"}
        labels = {"alertname": WATCHDOG, "severity": "critical"}
        alert = {"status": status, "startsAt": now, "endsAt": now, "labels": labels, "annotations": notes}
        return json.dumps(told(alert), ensure_ascii=False)

    def keep(self) -> None:
        """Look every second."""
        while True:
            time.sleep(1)
            self.look()


watch = Watch()


class Pager(BaseHTTPRequestHandler):
    """One POST a message; any GET is the health check's."""

    timeout = 5

    def do_GET(self) -> None:
        """Well."""
        self.answer(200)

    def do_POST(self) -> None:
        """Write down what is told."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 < length <= LARGEST:
                raise ValueError(length)
            alerts = json.loads(self.rfile.read(length))["alerts"]
            lines = [json.dumps(told(alert), ensure_ascii=False) for alert in alerts if name(alert) != WATCHDOG]
            heard = [str(alert["annotations"]["at"]) for alert in alerts if name(alert) == WATCHDOG]
        except (ValueError, KeyError, TypeError):
            self.answer(400)
            return
        for at in heard:
            watch.hear(at)
        write(*lines)
        self.answer(200)

    def answer(self, status: int) -> None:
        """Nothing but a status."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The log is for alerts."""


def write(*lines: str) -> None:
    """At once: another message may come in another thread."""
    if lines:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


def name(alert: Any) -> str:
    """What it is called."""
    return str(alert["labels"]["alertname"])


def told(alert: Any) -> dict[str, str]:
    """What a person wants to know of one alert."""
    labels, notes = alert["labels"], alert["annotations"]
    over = str(alert["status"]) == "resolved"
    return {
        "time": str(alert["endsAt" if over else "startsAt"]),
        "state": "over" if over else "firing",
        "alert": name(alert),
        "severity": labels.get("severity", ""),
        "instance": labels.get("instance", ""),
        "summary": notes.get("summary", ""),
        "look": notes.get("look", ""),
    }


if __name__ == "__main__":
    threading.Thread(target=watch.keep, daemon=True).start()
    ThreadingHTTPServer(("", PORT), Pager).serve_forever()
