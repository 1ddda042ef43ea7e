"""Whom Alertmanager tells: what it writes down, and what it refuses."""

import http.client
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from ladder.settings import ROOT

spec = importlib.util.spec_from_file_location("pager", ROOT / "prometheus/pager.py")
assert spec
assert spec.loader
pager = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pager)

FIRING = {
    "status": "firing",
    "labels": {"alertname": "ServerDown", "severity": "warning", "instance": "web2"},
    "annotations": {"summary": "web2 – does not answer", "look": "make logs NODE=web2"},
    "startsAt": "2026-11-21T15:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
}
OVER = FIRING | {"status": "resolved", "endsAt": "2026-11-21T15:01:00Z"}


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), pager.Pager)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def send(port: int, body: bytes, headers: dict[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/", body, headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_each_alert_of_a_message_is_a_line(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(port, json.dumps({"alerts": [FIRING, OVER]}).encode()) == 200
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == {
        "time": "2026-11-21T15:00:00Z",
        "state": "firing",
        "alert": "ServerDown",
        "severity": "warning",
        "instance": "web2",
        "summary": "web2 – does not answer",
        "look": "make logs NODE=web2",
    }
    assert (second["state"], second["time"]) == ("over", "2026-11-21T15:01:00Z")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"alerts": 1}', b'{"alerts": [{"status": "firing"}]}', b"\xff"])
def test_what_is_no_message_is_refused_and_leaves_nothing(
    port: int, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(port, body) == 400
    assert send(port, b"{}", {"Content-Length": "9999999999"}) == 400
    assert capsys.readouterr().out == ""


def test_it_is_well_when_it_answers(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_message_is_written_at_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one that comes at the same moment, in another thread, is written before or after it."""
    written: list[str] = []
    monkeypatch.setattr("sys.stdout.write", written.append)
    assert send(port, json.dumps({"alerts": [FIRING, OVER]}).encode()) == 200
    monkeypatch.undo()
    (whole,) = written
    assert whole.count("\n") == 2


class Clock:
    """The pager's own, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pager.time, "monotonic", found.monotonic)
    monkeypatch.setattr(pager, "watch", pager.Watch())
    return found


def watchdog(at: str) -> bytes:
    alert = FIRING | {"labels": {"alertname": "Watchdog", "severity": "none"}, "annotations": {"at": at}}
    return json.dumps({"alerts": [alert]}).encode()


def test_what_always_fires_is_no_line_and_its_silence_is_one(
    port: int, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(port, watchdog("1.7e+09")) == 200
    clock.now += 45
    pager.watch.look()
    assert capsys.readouterr().out == ""
    clock.now += 1
    pager.watch.look()
    pager.watch.look()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["alert"], line["state"], line["severity"]) == ("Watchdog", "firing", "critical")
    assert line["summary"] == "Nothing is heard of prometheus or alertmanager for 45 s."

    assert send(port, watchdog("1.8e+09")) == 200
    pager.watch.look()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["alert"], line["state"]) == ("Watchdog", "over")


def test_what_alertmanager_repeats_of_a_dead_collector_is_no_news(
    port: int, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        assert send(port, watchdog("1.7e+09")) == 200
        clock.now += 10
        pager.watch.look()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_one_that_was_never_heard_is_missed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    clock.now += 46
    pager.watch.look()
    assert '"firing"' in capsys.readouterr().out


def test_a_watchdog_that_says_no_time_is_refused(port: int) -> None:
    alert = FIRING | {"labels": {"alertname": "Watchdog"}, "annotations": {}}
    assert send(port, json.dumps({"alerts": [alert]}).encode()) == 400
