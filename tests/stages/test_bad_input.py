"""Bad input from outside gets a 4xx that says why, never a 500, and leaves nothing behind that is wrong."""

import json
import socket
import time
import uuid

import httpx
import pytest

from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import PASSWORD, Stack
from tests.stages.test_api import posted, problem

pytestmark = pytest.mark.stage(0, 1)

JSON = {"Content-Type": "application/json"}
BODIES = {
    "empty": b"",
    "broken": b'{"body": ',
    "two": b'{"body": "a"} {"body": "b"}',
    "list": b'["body"]',
    "text": b'"body"',
    "null": b"null",
    "number": b"17",
    "NaN": b'{"body": NaN}',
    "latin1": '{"body": "Grüße"}'.encode("latin-1"),
    "cut": b'{"body": "\xf0\x9f\xa6"}',
    "utf16": '{"body": "x"}'.encode("utf-16"),
    "deep": b"[" * 7_000,
    "surrogate": rb'{"body": "\ud800"}',
    "NUL": rb'{"body": "a\u0000b"}',
    "raw NUL": b'{"body": "a\x00b"}',
    "escape": rb'{"body": "\u001b[31m"}',
    "missing": b"{}",
    "unknown": b'{"body": "x", "id": 1}',
    "number for text": b'{"body": 1}',
    "list for text": b'{"body": ["x"]}',
    "object for text": b'{"body": {"$ne": ""}}',
    "null for text": b'{"body": null}',
    "blank": b'{"body": " \\n\\t "}',
    "long": json.dumps({"body": "x" * 501}).encode(),
}


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES.keys())
def test_bodies_that_are_no_message(author: httpx.Client, content: bytes) -> None:
    for method, path in (("POST", "/api/messages"), ("PATCH", "/api/messages/1")):
        response = author.request(method, path, content=content, headers=JSON)
        assert response.status_code in (400, 403, 422), response.text
        problem(response, response.status_code)


@pytest.mark.parametrize("field", ["name", "password"])
@pytest.mark.parametrize("value", ["", "x", "x" * 200, "a\0b", "\ud800" * 12, 7, None, [], {}, True, "ü" * 200])
def test_credentials_that_are_none(visitor: httpx.Client, field: str, value: object) -> None:
    content = json.dumps({"name": f"n-{uuid.uuid4().hex[:8]}", "password": PASSWORD} | {field: value})

    problem(visitor.post("/api/accounts", content=content, headers=JSON), 422)


@pytest.mark.parametrize("ident", ["0", "-1", "9223372036854775808", "9" * 40, "x", "1.5", "1%00", "%ff", "1'--", "١"])
def test_ids_that_nobody_gave(author: httpx.Client, ident: str) -> None:
    for method, content in (("GET", None), ("PATCH", b'{"body": "x"}'), ("DELETE", None)):
        response = author.request(method, f"/api/messages/{ident}", content=content, headers=JSON)
        problem(response, 400 if ident == "1%00" else 404)  # no path may have a NUL in it: nginx sees to that


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "before=0", "before=-3", "before=%ff"])
def test_pages_that_are_none(visitor: httpx.Client, query: str) -> None:
    problem(visitor.get(f"/api/messages?{query}"), 422)
    assert visitor.get(f"/?{query}").status_code in (200, 400, 404)


@pytest.mark.parametrize("key", ["", '"', '"open', "x" * 256, "caf\xe9", '"a"b"'])
def test_keys_that_are_none(author: httpx.Client, key: str) -> None:
    headers = {**JSON, "Idempotency-Key": key.encode("latin-1")}

    problem(author.post("/api/messages", content=b'{"body": "x"}', headers=headers), 400)


@pytest.mark.parametrize(
    "bearer", ["", "Bearer", "Bearer x", "Bearer " + "x" * 4000, "Basic Og==", "Bearer ' OR 1=1 --"]
)
def test_tokens_that_nobody_was_given(visitor: httpx.Client, bearer: str) -> None:
    problem(visitor.post("/api/messages", json={"body": "x"}, headers={"Authorization": bearer}), 401)


def test_other_kinds_of_content_and_methods(author: httpx.Client) -> None:
    problem(author.post("/api/messages", data={"body": "x"}), 415)
    problem(author.post("/api/messages", content="body: x", headers={"Content-Type": "text/yaml"}), 415)
    problem(author.put("/api/messages", json={"body": "x"}), 405)
    problem(author.delete("/api/messages"), 405)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE messages; --",
        '" OR ""="',
        "\\' UNION SELECT password_hash FROM accounts #",
        "100%_\\%",
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }} {% raw %} ${7*7}",
        "&lt;b&gt; &amp;",
        "\u202egnp.exe",
        "🦄" * 500,
        "first\nsecond",
    ],
)
def test_text_that_looks_like_code_is_text(
    stack: Stack, author: httpx.Client, visitor: httpx.Client, text: str
) -> None:
    message = posted(author, text)

    assert message["body"] == text
    path = f"/api/messages/{message['id']}"
    wait_until(lambda: visitor.get(path).status_code == 200, within=20, what="the message can be read")
    assert visitor.get(path).json()["body"] == text
    page = visitor.get("/").text
    assert f'id="m{message["id"]}"' in page
    assert "<script" not in page
    assert "<img" not in page
    ((stored,),) = stack.sql(stack.holder("primary"), f"SELECT HEX(body) FROM messages WHERE id = {message['id']}")
    assert bytes.fromhex(stored).decode() == text


@pytest.mark.parametrize("size", [20_000, 20_000_000])
def test_a_body_that_is_too_large(author: httpx.Client, size: int) -> None:
    """Refused before it has all been sent: the visitor reads 413, or finds the connection closed while sending."""
    try:
        response = author.post("/api/messages", content=b'{"body": "' + b"x" * size + b'"}', headers=JSON)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert size > 1_000_000, "a small body has to be answered"
    else:
        problem(response, 413)
    assert author.get("/api/messages").status_code == 200


def raw(stack: Stack, request: bytes) -> bytes:
    """What comes back for bytes that no HTTP library would send."""
    with socket.create_connection((stack.settings.address, stack.settings.http_port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\nno colon\r\nConnection: close\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: close\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: close\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: close\r\n\r\n",
        b"GET /" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\nX-Long: " + b"x" * 60_000 + b"\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\n" + b"X-Many: x\r\n" * 2_000 + b"Connection: close\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: www.foobar.com\r\nContent-Length: x\r\nConnection: close\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: www.foobar.com\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /api/messages HTTP/1.1\r\nHost: www.foobar.com\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: www.foobar.com\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "nonsense",
        "half a request line",
        "no host",
        "no colon",
        "encoded NUL in the path",
        "NUL in the path",
        "path is not UTF-8",
        "long path",
        "long header",
        "many headers",
        "length is no number",
        "two lengths",
        "broken chunk",
        "length and chunks",
    ],
)
def test_requests_that_are_none(stack: Stack, request_: bytes) -> None:
    answer = raw(stack, request_)

    status = answer.partition(b"\r\n")[0].split()
    assert len(status) >= 2, f"no answer: {answer[:200]!r}"
    assert status[0].startswith(b"HTTP/1.")
    assert status[1].startswith(b"4"), answer[:500]
    assert answer.count(b"HTTP/1.") == 1, "one request had two answers"


@pytest.mark.parametrize(
    "started",
    [
        b"GET / HTTP/1.1\r\nHost: www.foobar.com\r\nX-Slow",
        b"POST /api/messages HTTP/1.1\r\nHost: www.foobar.com\r\nContent-Length: 10\r\n\r\nabc",
    ],
    ids=["headers", "body"],
)
def test_a_request_that_never_ends_is_given_up(stack: Stack, measure: Measure, started: bytes) -> None:
    """Slow clients hold no server for long: five seconds for the headers, and again for the body."""
    begun = time.monotonic()
    with socket.create_connection((stack.settings.address, stack.settings.http_port), timeout=20) as connection:
        connection.sendall(started)
        answer = connection.recv(4096)  # nothing at all, when it is just closed

    measure("seconds until it is given up", round(time.monotonic() - begun, 1))
    assert not answer or answer.split()[1] in (b"400", b"401", b"408"), answer
    if stack.stage.balancers and started.startswith(b"POST /api/"):  # nginx, on stage 0, just closes
        assert b"\r\ncontent-type: application/problem+json\r\n" in answer.lower(), answer
