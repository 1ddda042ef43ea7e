"""An answer's head and its body leave together, from the Gunicorn that the lock names."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from wall import whole


class Connection:
    """Remembers what was sent on it, call by call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8000


def answer(connection: Connection, method: str = "GET") -> Any:
    request = SimpleNamespace(
        method=method,
        uri="/",
        path="/",
        query="",
        fragment="",
        version=(1, 1),
        headers=[],
        body=None,
        scheme="http",
        trailers=[],
        proxy_protocol_info=None,
        _expected_100_continue=False,
        should_close=lambda: False,
    )
    made, _ = wsgi.create(request, connection, ("127.0.0.1", 4000), ("127.0.0.1", 8000), Config())
    return made


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "Response", wsgi.Response)
    whole.install()


def test_head_and_body_are_sent_by_one_call() -> None:
    connection = Connection()
    response = answer(connection)
    response.start_response("200 OK", [("Content-Length", "8")])
    response.write(b"mess")
    assert len(connection.sent) == 1
    assert connection.sent[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection.sent[0].endswith(b"\r\n\r\nmess")
    response.write(b"ages")
    response.close()
    assert connection.sent[1:] == [b"ages"]


def test_an_answer_without_a_body_is_its_head() -> None:
    connection = Connection()
    response = answer(connection, "HEAD")
    response.start_response("204 No Content", [])
    response.close()
    [head] = connection.sent
    assert head.endswith(b"\r\n\r\n")


def test_a_body_of_unknown_length_is_framed_as_ever() -> None:
    connection = Connection()
    response = answer(connection)
    response.start_response("200 OK", [])
    response.write(b"message")
    response.close()
    head, body = connection.sent[0].split(b"\r\n\r\n", 1)
    assert b"Transfer-Encoding: chunked" in head
    assert (body, connection.sent[1:]) == (b"7\r\nmessage\r\n", [b"0\r\n\r\n"])


def test_a_visitor_who_is_gone_is_told_of_as_ever() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        response = answer(Connection())
        response.sock = ours
        response.start_response("200 OK", [("Content-Length", "1")])
        with pytest.raises(BrokenPipeError):
            response.write(b"m")
        assert response.sock is ours
