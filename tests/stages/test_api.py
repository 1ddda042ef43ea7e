"""The JSON API, from outside: accounts, tokens, messages, paging, idempotency, whichever server answers."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from ladder import door
from ladder.wait import wait_until
from tests.stack import PASSWORD, Stack

pytestmark = pytest.mark.stage(0, 1)


def unique() -> str:
    return uuid.uuid4().hex[:16]


def app_of(response: httpx.Response) -> str:
    return next(s for s in response.headers["X-Served-By"].split(", ") if s.startswith("app"))


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document (RFC 9457) of an error."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].split(";")[0] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    return document


def post(author: httpx.Client, body: str, key: str = "") -> httpx.Response:
    return author.post("/api/messages", json={"body": body}, headers={"Idempotency-Key": key} if key else {})


def posted(author: httpx.Client, body: str) -> dict[str, Any]:
    response = post(author, body)
    assert response.status_code == 201, response.text
    message: dict[str, Any] = response.json()
    return message


def test_account_and_tokens(visitor: httpx.Client) -> None:
    name = f"Ada-{unique()}"

    made = visitor.post("/api/accounts", json={"name": name, "password": PASSWORD})
    again = visitor.post("/api/tokens", json={"name": name, "password": PASSWORD})

    assert (made.status_code, again.status_code) == (201, 201)
    assert made.json()["token"] != again.json()["token"]
    for response in (made, again):
        assert response.headers["Cache-Control"] == "no-store"
        bearer = {"Authorization": f"Bearer {response.json()['token']}"}
        said = visitor.post("/api/messages", json={"body": f"{name} was here"}, headers=bearer)
        assert said.status_code == 201
        assert said.json()["author"] == name
    problem(visitor.post("/api/accounts", json={"name": name.upper(), "password": PASSWORD}), 409)
    problem(visitor.post("/api/tokens", json={"name": name, "password": "wrong horse battery"}), 401)
    problem(visitor.post("/api/tokens", json={"name": unique(), "password": PASSWORD}), 401)


def test_life_of_a_message(stack: Stack, visitor: httpx.Client, author: httpx.Client) -> None:
    text = f"first <b>{unique()}</b>\nsecond – 漢字 🦄"

    message = posted(author, text)
    path = f"/api/messages/{message['id']}"
    assert message["body"] == text
    assert message["created_at"].endswith("Z")
    # A replica may not know it for a moment; that is what asynchronous means.
    wait_until(lambda: visitor.get(path).status_code == 200, within=20, what="the message can be read")
    assert visitor.get(path).json() == message

    changed = author.patch(path, json={"body": "changed"})
    assert (changed.status_code, changed.json()["body"]) == (200, "changed")
    wait_until(lambda: visitor.get(path).json()["body"] == "changed", within=20, what="the change can be read")

    with stack.author() as somebody:
        problem(somebody.patch(path, json={"body": "mine"}), 403)
        problem(somebody.delete(path), 403)
    problem(visitor.delete(path), 401)

    assert author.delete(path).status_code == 204
    wait_until(lambda: visitor.get(path).status_code == 404, within=20, what="the message is gone")
    problem(visitor.get(path), 404)
    problem(author.delete(path), 404)
    problem(author.patch(path, json={"body": "again"}), 404)


def test_paging_gives_every_message_once_newest_first(visitor: httpx.Client, author: httpx.Client) -> None:
    mine = [posted(author, f"page {number}")["id"] for number in range(7)]
    wait_until(
        lambda: visitor.get(f"/api/messages/{mine[-1]}").status_code == 200, within=20, what="the last can be read"
    )

    seen: list[int] = []
    after: int | None = mine[-1] + 1
    while after is not None and after > mine[0]:
        page = visitor.get("/api/messages", params={"limit": 3, "before": after}).json()
        assert len(page["messages"]) <= 3
        seen += [message["id"] for message in page["messages"]]
        after = page["next"]

    assert seen == sorted(set(seen), reverse=True)
    assert set(mine) <= set(seen)


def test_last_page_has_no_next(visitor: httpx.Client) -> None:
    page = visitor.get("/api/messages", params={"limit": 100, "before": 1}).json()

    assert page == {"messages": [], "next": None}


def test_same_key_and_body_post_once(author: httpx.Client, stack: Stack) -> None:
    body, key = f"once {unique()}", unique()

    first, second, third = post(author, body, key), post(author, body, f'"{key}"'), post(author, body, key)

    assert (first.status_code, second.status_code, third.status_code) == (201, 201, 201)
    assert first.json() == second.json() == third.json()
    assert stack.sql(stack.holder("primary"), f"SELECT COUNT(*) FROM messages WHERE body = '{body}'") == [["1"]]


def test_same_key_and_another_body_are_refused(author: httpx.Client, stack: Stack) -> None:
    body, key = f"first {unique()}", unique()
    first = post(author, body, key)

    problem(post(author, body + " changed", key), 422)

    assert first.status_code == 201
    assert len(stack.sql(stack.holder("primary"), f"SELECT id FROM messages WHERE body LIKE '{body}%'")) == 1


def test_keys_of_two_authors_do_not_meet(author: httpx.Client, stack: Stack) -> None:
    key = unique()
    with stack.author() as somebody:
        first, second = post(author, "mine", key), post(somebody, "mine", key)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.stage(0, 1, 3)
def test_same_key_from_everywhere_at_once_posts_once(author: httpx.Client, stack: Stack) -> None:
    """Each request goes its own way; a later one may be told that the first is under way, never a second id."""
    body, key = f"at once {unique()}", unique()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(author, body, key), range(16)))

    assert {answer.status_code for answer in answers} <= {201, 409}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert {app_of(answer) for answer in answers} == {n for n in stack.stage.nodes if n.startswith("app")}
    assert stack.sql(stack.holder("primary"), f"SELECT COUNT(*) FROM messages WHERE body = '{body}'") == [["1"]]


@pytest.mark.stage(0, 1, 3)
def test_session_and_token_of_one_app_server_hold_at_the_other(author: httpx.Client, stack: Stack) -> None:
    """No sticky sessions are needed: every app server knows the visitor."""
    name = f"session-{unique()}"
    servers = {node for node in stack.stage.nodes if node.startswith("app")}
    with stack.visitor() as browser:
        form = browser.get("/register").text
        token = form.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
        filled_in = {"csrf_token": token, "name": name, "password": PASSWORD}
        # By HTTPS a form is believed only if it says where it was filled in.
        joined = browser.post("/register", data=filled_in, headers={"Referer": f"https://{door.HOST}/register"})
        assert joined.status_code == 303, joined.text
        pages = [browser.get("/") for _ in range(8)]
        posts = [post(author, "either will do") for _ in range(8)]

    assert {app_of(page) for page in pages} == servers
    assert all(f'<span class="who">{name}</span>' in page.text for page in pages)
    assert {app_of(answer) for answer in posts} == servers
    assert {answer.status_code for answer in posts} == {201}


@pytest.mark.stage(0, 1, 3)
def test_forms_without_their_token_are_refused(visitor: httpx.Client, stack: Stack) -> None:
    name = f"forged-{unique()}"

    said = {"Referer": f"https://{door.HOST}/register"}
    refused = visitor.post("/register", data={"name": name, "password": PASSWORD}, headers=said)

    assert refused.status_code in (400, 403)
    assert stack.sql(stack.holder("primary"), f"SELECT COUNT(*) FROM accounts WHERE name = '{name}'") == [["0"]]


def test_openapi_document_is_served_and_valid(visitor: httpx.Client) -> None:
    document = visitor.get("/api/openapi.json").json()

    validate(document)
    assert set(document["paths"]) == {
        "/api/accounts",
        "/api/tokens",
        "/api/messages",
        "/api/messages/{message_id}",
        "/api/served-by",
        "/api/openapi.json",
    }


def test_served_by_tells_the_way(stack: Stack, visitor: httpx.Client) -> None:
    expected = "replica" if stack.stage.number else "primary"
    read = stack.holder(expected)

    def as_wanted() -> dict[str, Any] | None:
        """What it tells as soon as it reads there: a replica that was late a moment ago is asked again in the next."""
        said: dict[str, Any] = visitor.get("/api/served-by").json()
        return said if said["reads"]["name"] == read else None

    told = wait_until(as_wanted, within=20, what=f"reads come from {read}")
    assert told
    assert told.keys() == {"lb", "web", "app", "reads", "writes"}
    assert told["writes"] == {"name": stack.holder("primary"), "role": "primary"}
    assert told["reads"]["role"] == expected
    assert (told["reads"]["seconds_behind"] is None) == (expected == "primary")
