"""The JSON API: what it answers, to good requests and to bad ones, and its own description."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from tests.unit.app.fakes import PASSWORD, Tier, join_api

Headers = dict[str, str]


def is_problem(answer: Any, status: int) -> bool:
    """Whether this is a problem document (RFC 9457) of this status."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= answer.json.keys()
    return bool(answer.json["status"] == status)


def test_account_then_message(client: FlaskClient, token: Headers) -> None:
    answer = client.post("/api/messages", json={"body": " hello "}, headers=token)
    assert answer.status_code == 201
    message = answer.json
    assert message["body"] == "hello"
    assert message["author"] == "ada"
    assert message["created_at"].endswith("Z")
    assert answer.headers["Location"] == f"/api/messages/{message['id']}"
    assert client.get(answer.headers["Location"]).json == message
    assert client.get("/api/messages").json["messages"][0] == message


def test_token_for_an_existing_account(client: FlaskClient, token: Headers) -> None:
    answer = client.post("/api/tokens", json={"name": "ADA", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json["name"] == "ada"
    assert answer.headers["Cache-Control"] == "no-store"
    other = {"Authorization": f"Bearer {answer.json['token']}"}
    assert other != token
    assert client.post("/api/messages", json={"body": "x"}, headers=other).status_code == 201


@pytest.mark.parametrize("name", ["ada", "nobody", "foobar"])
def test_wrong_password(client: FlaskClient, token: Headers, name: str) -> None:
    answer = client.post("/api/tokens", json={"name": name, "password": "wrong password"})
    assert is_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_taken_name_is_taken_in_any_case(client: FlaskClient, token: Headers) -> None:
    answer = client.post("/api/accounts", json={"name": "Ada", "password": PASSWORD})
    assert is_problem(answer, 409)


def test_tokens_and_passwords_are_not_stored(client: FlaskClient, tier: Tier, token: Headers) -> None:
    keyed = {"Idempotency-Key": "k1"}
    body = {"name": "bob", "password": PASSWORD}
    second = client.post("/api/accounts", json=body, headers=keyed).json["token"]
    client.post("/api/tokens", json=body, headers={"Idempotency-Key": "k2"})
    stored = repr([tier.rows(f"SELECT * FROM {table}") for table in ("accounts", "tokens", "idempotent_answers")])
    assert "bob" in stored
    for secret in (second, token["Authorization"].split()[1], PASSWORD):
        assert secret not in stored


def test_paging_reaches_every_message_once(client: FlaskClient, token: Headers) -> None:
    for number in range(8):
        client.post("/api/messages", json={"body": f"message {number}"}, headers=token)
    seen, url = [], "/api/messages?limit=3"
    while url:
        page = client.get(url).json
        seen += [message["id"] for message in page["messages"]]
        url = page["next"] and f"/api/messages?limit=3&before={page['next']}"
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 8 + 5  # and the house's


def test_an_exactly_full_page_is_the_last(client: FlaskClient) -> None:
    assert client.get("/api/messages?limit=5").json["next"] is None
    assert client.get("/api/messages?limit=4").json["next"] is not None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "before=0",
        "before=-1",
        "before=9223372036854775808",
        "before=%ff",
        "limit=1e1",
        "limit=" + "9" * 5000,
    ],
)
def test_bad_queries(client: FlaskClient, query: str) -> None:
    assert is_problem(client.get(f"/api/messages?{query}"), 422)


def test_change_and_delete_ones_own(client: FlaskClient, token: Headers) -> None:
    url = client.post("/api/messages", json={"body": "a"}, headers=token).headers["Location"]
    changed = client.patch(url, json={"body": "b"}, headers=token)
    assert (changed.status_code, changed.json["body"]) == (200, "b")
    assert changed.json["edited_at"]
    gone = client.delete(url, headers=token)
    assert (gone.status_code, gone.data) == (204, b"")
    assert is_problem(client.get(url), 404)
    assert is_problem(client.delete(url, headers=token), 404)


def test_others_messages_are_not_mine(client: FlaskClient, token: Headers) -> None:
    url = client.post("/api/messages", json={"body": "a"}, headers=token).headers["Location"]
    bob = join_api(client, "bob")
    assert is_problem(client.patch(url, json={"body": "b"}, headers=bob), 403)
    assert is_problem(client.delete(url, headers=bob), 403)
    assert client.get(url).json["body"] == "a"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ä".encode().decode("latin-1")},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/messages"), ("PATCH", "/api/messages/1"), ("DELETE", "/api/messages/1")],
)
def test_no_token_no_writing(client: FlaskClient, tier: Tier, method: str, path: str, headers: Headers) -> None:
    answer = client.open(path, method=method, json={"body": "x"}, headers=headers)
    assert is_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert len(tier.rows("SELECT id FROM messages WHERE body = 'x'")) == 0


def test_a_session_cookie_is_no_token(app: Flask, browser: Any) -> None:
    browser.join()
    answer = browser.client.post("/api/messages", json={"body": "forged by another site"})
    assert is_problem(answer, 401)


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"body": "\xff"}', "application/json", 400),
        ('{"body": "x"}'.encode("utf-16"), "application/json", 400),
        (b"[" * 16_000, "application/json", 400),
        (b'{"body": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"body": NaN}', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b'"body"', "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"body": null}', "application/json", 422),
        (b'{"body": 1}', "application/json", 422),
        (b'{"body": ["x"]}', "application/json", 422),
        (b'{"body": ""}', "application/json", 422),
        (b'{"body": " \\n "}', "application/json", 422),
        (b'{"body": "a\\u0000b"}', "application/json", 422),
        (b'{"body": "\\ud800"}', "application/json", 422),
        (b'{"body": "x", "id": 1}', "application/json", 422),
        (json.dumps({"body": "x" * 501}).encode(), "application/json", 422),
        (b'{"body": "x"}', "text/plain", 415),
        (b"body=x", "application/x-www-form-urlencoded", 415),
        (b'{"body": "' + b"x" * 17_000 + b'"}', "application/json", 413),
    ],
)
def test_bad_bodies(
    client: FlaskClient, tier: Tier, token: Headers, data: bytes, content_type: str, status: int
) -> None:
    before = tier.rows("SELECT count(*) FROM messages")
    for method, path in (("POST", "/api/messages"), ("PATCH", "/api/messages/1")):
        answer = client.open(path, method=method, data=data, content_type=content_type, headers=token)
        assert is_problem(answer, status)
    assert tier.rows("SELECT count(*) FROM messages") == before


@pytest.mark.parametrize(
    "credentials",
    [
        {"name": "ab", "password": PASSWORD},
        {"name": "a b c", "password": PASSWORD},
        {"name": "abc", "password": "short"},
        {"name": "abc", "password": "\ud800" * 12},
        {"name": "\0\0\0", "password": PASSWORD},
        {"name": "abc"},
        {"name": ["abc"], "password": PASSWORD},
    ],
)
def test_bad_credentials(client: FlaskClient, credentials: dict[str, Any]) -> None:
    for path in ("/api/accounts", "/api/tokens"):
        answer = client.post(path, data=json.dumps(credentials), content_type="application/json")
        assert is_problem(answer, 422)


@pytest.mark.parametrize(
    "body",
    [
        "'; DROP TABLE messages; --",
        "<script>alert(1)</script>",
        "שלום",
        "👩‍👩‍👧‍👦 \U0001f44b",
        "a\nb",
        '{"body": "x"}',
        "%s %(id)s :id \\ \\n",
        "\ufffd\uffff",
    ],
)
def test_text_comes_back_as_it_went_in(client: FlaskClient, token: Headers, body: str) -> None:
    answer = client.post("/api/messages", json={"body": body}, headers=token)
    assert client.get(answer.headers["Location"]).json["body"] == body


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/messages/0",
        "/api/messages/x",
        "/api/messages/-1",
        "/api/messages/9223372036854775807",
        "/api/messages/9223372036854775808",
        "/api/messages/" + "9" * 5000,
        "/api/messages/%D9%A3",
        "/api/messages/1/",
    ],
)
def test_what_is_not_there(client: FlaskClient, path: str) -> None:
    assert is_problem(client.get(path), 404)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_ids_beyond_any_are_not_there(client: FlaskClient, token: Headers, method: str) -> None:
    url = "/api/messages/9223372036854775808"
    answer = client.open(url, method=method, json={"body": "x"}, headers=token)
    assert is_problem(answer, 404)


def test_wrong_method(client: FlaskClient) -> None:
    answer = client.delete("/api/messages")
    assert is_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_served_by(client: FlaskClient) -> None:
    stages = {"X-Load-Balancer": "lb1", "X-Web-Server": "web1"}
    answer = client.get("/api/served-by", headers=stages)
    assert answer.json == {
        "lb": "lb1",
        "web": "web1",
        "app": "app1",
        "reads": {"name": "db2", "role": "replica", "seconds_behind": 0},
        "writes": {"name": "db1", "role": "primary"},
    }
    assert answer.headers["X-Served-By"] == "app1, db2"


def test_served_by_without_database(client: FlaskClient, tier: Tier) -> None:
    tier.nothing()
    answer = client.get("/api/served-by", headers={"X-Web-Server": "<b>"})
    assert answer.status_code == 200
    assert (answer.json["lb"], answer.json["web"]) == (None, None)
    assert answer.json["reads"] == {"name": None, "role": None, "seconds_behind": None}
    assert answer.json["writes"] == {"name": None, "role": None}


def test_without_primary_reads_go_on_and_writes_are_held(client: FlaskClient, tier: Tier, token: Headers) -> None:
    tier.no_primary()
    assert client.get("/api/messages").status_code == 200
    answer = client.post("/api/messages", json={"body": "x"}, headers=token)
    assert is_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert "Reading goes on" in answer.json["detail"]


def test_whom_a_stale_replica_does_not_know_may_be_new(client: FlaskClient, tier: Tier, token: Headers) -> None:
    with tier.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM tokens")
        connection.exec_driver_sql("DELETE FROM accounts WHERE name = 'ada'")
    message, login = {"body": "x"}, {"name": "ada", "password": PASSWORD}
    assert is_problem(client.post("/api/messages", json=message, headers=token), 401)
    assert is_problem(client.post("/api/tokens", json=login), 401)
    tier.no_primary()
    assert is_problem(client.post("/api/messages", json=message, headers=token), 503)
    assert is_problem(client.post("/api/tokens", json=login), 503)


def test_without_any_database(client: FlaskClient, tier: Tier) -> None:
    tier.nothing()
    answer = client.get("/api/messages")
    assert is_problem(answer, 503)
    assert "Retry-After" in answer.headers
    assert client.get("/healthz").status_code == 200


def test_a_bug_is_a_problem_document_that_tells_nothing(app: Flask, client: FlaskClient) -> None:
    app.view_functions["api.openapi"] = lambda: 1 / 0
    answer = client.get("/api/openapi.json")
    assert is_problem(answer, 500)
    assert "division" not in answer.text


def test_the_description_is_valid_and_complete(app: Flask, client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").json
    validate(document)
    described = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
        if method != "parameters"
    }
    served = {
        (rule.rule.replace("<id:", "{").replace(">", "}"), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served
    assert len(served) == 9


def test_the_description_names_the_problems(client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").json
    responses = document["paths"]["/api/messages"]["post"]["responses"]
    assert {"default", "201", "400", "401", "409", "413", "415", "422", "503"} <= responses.keys()
    for code, response in responses.items():
        if code[0] in "45d":
            assert list(response["content"]) == ["application/problem+json"], code
