"""Idempotency-Key: a retry gets the first answer and never acts twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from wall import create_app
from wall.idempotency import Idempotency, parse_key
from wall.models import answers, now
from werkzeug.exceptions import BadRequest

from tests.unit.app.fakes import PASSWORD, SETTINGS, Tier, join_api

Headers = dict[str, str]


def post(client: FlaskClient, token: Headers, key: str, body: str = "hello") -> Any:
    headers = {**token, "Idempotency-Key": key}
    return client.post("/api/messages", json={"body": body}, headers=headers)


def test_the_same_key_gives_the_first_answer_again(client: FlaskClient, tier: Tier, token: Headers) -> None:
    first, second = post(client, token, "k"), post(client, token, "k")
    assert (first.status_code, first.data) == (second.status_code, second.data) == (201, first.data)
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(tier.rows("SELECT id FROM messages WHERE body = 'hello'")) == 1


def test_quoted_and_bare_are_the_same_key(client: FlaskClient, token: Headers) -> None:
    assert post(client, token, "k").data == post(client, token, '"k"').data


def test_another_body_under_the_same_key(client: FlaskClient, tier: Tier, token: Headers) -> None:
    post(client, token, "k")
    answer = post(client, token, "k", "other")
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert not tier.rows("SELECT id FROM messages WHERE body = 'other'")


def test_keys_are_case_sensitive_and_belong_to_an_account(client: FlaskClient, token: Headers) -> None:
    answers = [post(client, token, "k"), post(client, token, "K"), post(client, join_api(client, "bob"), "k")]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.json["id"] for answer in answers}) == 3


def test_the_answer_survives_what_became_of_the_message(client: FlaskClient, token: Headers) -> None:
    first = post(client, token, "k")
    client.delete(first.headers["Location"], headers=token)
    assert post(client, token, "k").data == first.data


@pytest.mark.parametrize("path", ["/api/accounts", "/api/tokens"])
def test_accounts_and_tokens_are_given_again(client: FlaskClient, token: Headers, path: str) -> None:
    name = "ada" if path == "/api/tokens" else "bob"
    body, headers = {"name": name, "password": PASSWORD}, {"Idempotency-Key": "k"}
    first, second = (client.post(path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.json) == (second.status_code, second.json)
    assert second.headers["Cache-Control"] == "no-store"
    mine = {"Authorization": f"Bearer {second.json['token']}"}
    assert client.post("/api/messages", json={"body": "x"}, headers=mine).status_code == 201


def test_the_same_key_for_another_path(client: FlaskClient) -> None:
    body, headers = {"name": "bob", "password": PASSWORD}, {"Idempotency-Key": "k"}
    assert client.post("/api/accounts", json=body, headers=headers).status_code == 201
    assert client.post("/api/tokens", json=body, headers=headers).status_code == 422


def test_any_app_server_gives_the_answer(client: FlaskClient, tier: Tier, token: Headers) -> None:
    other = create_app(SETTINGS, tier.database).test_client()
    assert post(client, token, "k").data == post(other, token, "k").data


def test_a_failure_leaves_the_key_free(client: FlaskClient, tier: Tier, token: Headers) -> None:
    body, headers = {"name": "ada", "password": PASSWORD}, {"Idempotency-Key": "k"}
    assert client.post("/api/accounts", json=body, headers=headers).status_code == 409
    assert tier.rows("SELECT * FROM idempotent_answers") == []
    body["name"] = "bob"
    assert client.post("/api/accounts", json=body, headers=headers).status_code == 201


def test_message_and_record_are_stored_together(
    client: FlaskClient, tier: Tier, token: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("wall.idempotency.Fernet.encrypt", broken)  # after the message was inserted
    assert post(client, token, "k").status_code == 500
    assert tier.rows("SELECT * FROM idempotent_answers") == []
    assert not tier.rows("SELECT id FROM messages WHERE body = 'hello'")


def test_after_a_day_a_key_is_new_again(client: FlaskClient, tier: Tier, token: Headers) -> None:
    first = post(client, token, "k")
    with tier.engine.begin() as connection:
        connection.execute(answers.update().values(created_at=now() - timedelta(hours=25)))
    second = post(client, token, "k", "other")
    assert second.status_code == 201
    assert second.json["id"] != first.json["id"]


def test_old_answers_are_pruned(client: FlaskClient, tier: Tier, token: Headers) -> None:
    post(client, token, "old")
    with tier.engine.begin() as connection:
        connection.execute(answers.update().values(created_at=now() - timedelta(hours=25)))
    post(client, token, "new")
    Idempotency(tier.database, "secret").prune()
    assert tier.rows("SELECT idempotency_key FROM idempotent_answers") == [("new",)]


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (r'"a\"b\\"', 'a"b\\'),
        ("a b", "a b"),
        ("x" * 255, "x" * 255),
        (None, None),
        (" k ", "k"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324",) * 2,
    ],
)
def test_keys(header: str | None, key: str | None) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize("header", ["", '""', '"', '"a', '"a"b"', r'"a\b"', "x" * 256, "ä", "a\tb"])
def test_malformed_keys(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_key(header)


def test_a_malformed_key_is_a_problem(client: FlaskClient, tier: Tier, token: Headers) -> None:
    answer = post(client, token, '"open')
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert not tier.rows("SELECT id FROM messages WHERE body = 'hello'")
