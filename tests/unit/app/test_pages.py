"""The site for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from flask.testing import FlaskClient
from wall.database import Busy
from wall.topology import NodeState

from tests.unit.app.fakes import PASSWORD, PRIMARY, REPLICA, Browser, Tier


def test_the_wall_is_not_empty_and_shows_its_way(client: FlaskClient) -> None:
    stages = {"X-Load-Balancer": "lb1", "X-Web-Server": "web1"}
    page = client.get("/", headers=stages)
    assert page.status_code == 200
    assert "Welcome to www.foobar.com" in page.text
    strip = re.sub(r"<[^>]+>|\s+", " ", page.text.split("<ol>")[1].split("</ol>")[0])
    assert re.sub(r" +", " ", strip).strip() == (
        "balancer lb1 web web1 app app1 reads db2 replica, 0&nbsp;s behind writes db1 primary"
    )
    assert page.headers["X-Served-By"] == "app1, db2"


def test_anonymous_readers_get_no_cookie(client: FlaskClient) -> None:
    page = client.get("/")
    assert "Set-Cookie" not in page.headers
    assert page.headers["Cache-Control"] == "no-cache"
    assert "Cookie" in page.headers["Vary"]


def test_one_statement_a_page(app: Flask, client: FlaskClient, tier: Tier) -> None:
    from sqlalchemy import event

    statements: list[str] = []
    event.listen(tier.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    client.get("/")
    assert len(statements) == 1


def test_join_post_see_it(browser: Browser) -> None:
    assert browser.join("Ada").headers["Location"] == "/"
    assert browser.say("hello\r\nworld").status_code == 303
    page = browser.client.get("/")
    assert "hello\nworld" in page.text
    assert "Ada" in page.text
    assert page.headers["Cache-Control"] == "private, no-store"


def test_who_wrote_reads_from_the_primary_for_a_moment(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.join()
    browser.say("hello")
    assert browser.client.get("/").headers["X-Served-By"] == "app1, db2, db1"  # who is it; wall
    with browser.client.session_transaction() as session:
        session["wrote_at"] -= 60
    assert browser.client.get("/").headers["X-Served-By"] == "app1, db2"


def test_cookie_flags(browser: Browser) -> None:
    cookie = browser.join().headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_login_and_logout(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.join()
    other = new_browser()
    assert other.send("/login", name="ada", password="wrong password").status_code == 401
    assert other.send("/login", name="ADA", password=PASSWORD).status_code == 303
    assert "Log out" in other.client.get("/").text
    assert other.send("/", "/logout").status_code == 303
    page = other.client.get("/")
    assert "Log out" not in page.text
    assert page.headers["Cache-Control"] == "no-cache"


def test_the_house_cannot_log_in(browser: Browser) -> None:
    for password in ("!", "", "!!!!!!!!!!"):
        answer = browser.send("/login", name="foobar", password=password)
        assert answer.status_code in (400, 401)


def test_any_app_server_accepts_the_session(app: Flask, browser: Browser, tier: Tier) -> None:
    from wall import create_app

    from tests.unit.app.fakes import SETTINGS

    cookie = browser.join().headers["Set-Cookie"].split(";")[0]
    other = create_app(SETTINGS, tier.database).test_client(use_cookies=False)
    assert "Log out" in other.get("/", headers={"Cookie": cookie}).text


@pytest.mark.parametrize("cookie", ["session=garbage", "session=", "session=\xff.x.y"])
def test_a_forged_session_is_nobody(app: Flask, cookie: str) -> None:
    page = app.test_client(use_cookies=False).get("/", headers={"Cookie": cookie})
    assert page.status_code == 200
    assert "Log out" not in page.text


def test_edit_and_delete_ones_own(browser: Browser, tier: Tier) -> None:
    browser.join()
    browser.say("first")
    number = tier.rows("SELECT max(id) FROM messages")[0][0]
    assert "first" in browser.client.get(f"/messages/{number}/edit").text
    assert browser.send(f"/messages/{number}/edit", body="second").status_code == 303
    assert tier.rows(f"SELECT body FROM messages WHERE id = {number}") == [("second",)]
    assert "edited" in browser.client.get("/").text
    assert "Delete this message?" in browser.client.get(f"/messages/{number}/delete").text
    assert tier.rows(f"SELECT count(*) FROM messages WHERE id = {number}") == [(1,)]
    assert browser.send(f"/messages/{number}/delete").status_code == 303
    assert tier.rows(f"SELECT count(*) FROM messages WHERE id = {number}") == [(0,)]
    assert browser.client.get(f"/messages/{number}/edit").status_code == 404


@pytest.mark.parametrize("action", ["edit", "delete"])
def test_others_messages_are_not_mine(browser: Browser, tier: Tier, action: str) -> None:
    browser.join()
    fields = {**browser.fields("/"), "body": "mine now"}
    assert browser.client.get(f"/messages/1/{action}").status_code == 403
    assert browser.client.post(f"/messages/1/{action}", data=fields).status_code == 403
    assert "Welcome" in tier.rows("SELECT body FROM messages WHERE id = 1")[0][0]


@pytest.mark.parametrize("path", ["/messages/1/edit", "/messages/1/delete"])
def test_writing_needs_an_account(client: FlaskClient, path: str) -> None:
    assert client.get(path).headers["Location"].startswith("/login")


@pytest.mark.parametrize("path", ["/messages", "/login", "/register", "/logout"])
def test_forms_need_their_token(browser: Browser, tier: Tier, path: str) -> None:
    browser.join()
    fields = {"body": "forged", "name": "eve", "password": PASSWORD}
    answer = browser.client.post(path, data=fields)
    assert answer.status_code == 400
    assert "gone stale" in answer.text
    assert not tier.rows("SELECT id FROM messages WHERE body = 'forged'")


def test_a_double_click_posts_once(browser: Browser, tier: Tier) -> None:
    browser.join()
    fields = {**browser.fields("/"), "body": "once"}
    for _ in range(2):
        assert browser.client.post("/messages", data=fields).status_code == 303
    assert len(tier.rows("SELECT id FROM messages WHERE body = 'once'")) == 1
    fields["body"] = "changed my mind"
    answer = browser.client.post("/messages", data=fields)
    assert answer.status_code == 409
    assert "changed my mind" in answer.text
    fields["key"] = re.search(r'name="key"[^>]*value="([^"]+)"', answer.text)[1]
    assert browser.client.post("/messages", data=fields).status_code == 303


def test_a_second_click_while_the_first_is_under_way_keeps_its_key(
    browser: Browser, tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another one it would be another message, as soon as both are through."""
    browser.join()
    fields = {**browser.fields("/"), "body": "once"}
    with monkeypatch.context() as first:
        first.setattr(tier.database, "write", Mock(side_effect=Busy))
        answer = browser.client.post("/messages", data=fields)
    assert answer.status_code == 409
    assert "on its way" in answer.text
    assert f'value="{fields["key"]}"' in answer.text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("'\"><img src=x onerror=alert(1)>", "&#39;&#34;&gt;&lt;img src=x onerror=alert(1)&gt;"),
        ("{{ 7*7 }}", "{{ 7*7 }}"),
        ("'; DROP TABLE messages; --", "&#39;; DROP TABLE messages; --"),
        ("שלום 👋", "שלום 👋"),
    ],
)
def test_text_is_text(browser: Browser, sent: str, shown: str) -> None:
    browser.join()
    browser.say(sent)
    assert f'dir="auto">{shown}</p>' in browser.client.get("/").text


@pytest.mark.parametrize("body", ["", "   ", "x" * 501, "a\0b", "a\x07b"])
def test_bad_messages_keep_what_was_typed(browser: Browser, tier: Tier, body: str) -> None:
    browser.join()
    before = tier.rows("SELECT count(*) FROM messages")
    answer = browser.say(body)
    assert answer.status_code == 400
    assert 'class="error"' in answer.text
    assert tier.rows("SELECT count(*) FROM messages") == before


def test_bytes_that_are_not_utf8_are_not_stored(browser: Browser, tier: Tier) -> None:
    browser.join()
    token = browser.fields("/")["csrf_token"]
    answer = browser.client.post(
        "/messages",
        data=f"csrf_token={token}&body=a%ffb",
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status_code == 400
    assert not tier.rows("SELECT id FROM messages WHERE body LIKE 'a%b'")


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("a b", PASSWORD, "3 to 32"),
        ("abc", "short", "10 to 128"),
        ("foobar", PASSWORD, "taken"),
        ("FooBar", PASSWORD, "taken"),
        ("<b>", PASSWORD, "&lt;b&gt;"),
    ],
)
def test_bad_accounts(browser: Browser, name: str, password: str, words: str) -> None:
    answer = browser.send("/register", name=name, password=password)
    assert answer.status_code in (400, 409)
    assert words in answer.text
    assert password not in answer.text


def test_paging(browser: Browser) -> None:
    browser.join()
    for number in range(20):
        browser.say(f"message {number}.")
    first = browser.client.get("/").text
    assert "message 19." in first
    assert "Welcome" not in first
    older = re.search(r'href="(/\?before=\d+)"', first)[1]
    second = browser.client.get(older).text
    assert "Welcome" in second
    assert "message 0." not in second
    assert "message 0." in first
    assert "?before=" not in second


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/?before=x", 404),
        ("/?before=-1", 404),
        ("/?before=%D9%A3", 404),
        ("/?before=9999999999999999999", 200),
        ("/?before=" + "9" * 5000, 404),
        ("/?before=1", 200),
        ("/messages", 405),
        ("/messages/0/edit", 404),
        ("/messages/9999999999999999999/edit", 404),
        ("/%00", 404),
        ("/%ff", 404),
    ],
)
def test_odd_addresses(client: FlaskClient, path: str, status: int) -> None:
    page = client.get(path)
    assert page.status_code == status
    assert 'aria-label="The way this page came"' in page.text


def test_too_large(browser: Browser) -> None:
    browser.join()
    answer = browser.say("x" * 17_000)
    assert answer.status_code == 413
    assert "16 KiB" in answer.text


def test_a_bug_is_a_page_that_tells_nothing(app: Flask, client: FlaskClient) -> None:
    app.view_functions["pages.wall"] = lambda: 1 / 0
    page = client.get("/")
    assert page.status_code == 500
    assert "Our mistake" in page.text
    assert "division" not in page.text


def test_without_primary_reading_goes_on_and_the_text_is_kept(browser: Browser, tier: Tier) -> None:
    browser.join()
    fields = {**browser.fields("/"), "body": "dear diary"}
    tier.no_primary()
    page = browser.client.get("/")
    assert page.status_code == 200
    assert "no primary" in page.text
    answer = browser.client.post("/messages", data=fields)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "Reading goes on" in answer.text
    assert "dear diary" in answer.text
    tier.topology.set(PRIMARY, REPLICA)
    assert browser.client.post("/messages", data=fields).status_code == 303


@pytest.mark.parametrize("logged_in", [False, True])
def test_without_any_database(browser: Browser, tier: Tier, logged_in: bool) -> None:
    if logged_in:
        browser.join()
    tier.nothing()
    for path in ("/", "/nothing"):
        page = browser.client.get(path)
        assert page.status_code == (503 if path == "/" else 404)
        assert "no database answers" in page.text
    assert "Retry-After" in browser.client.get("/").headers


def test_lag_is_shown(client: FlaskClient, tier: Tier) -> None:
    tier.topology.set(NodeState("db2", answers=True, replica=True, replicating=True, seconds_behind=3))
    assert "3&nbsp;s behind" in client.get("/").text


@pytest.mark.parametrize("path", ["/", "/api/messages", "/healthz", "/nothing", "/static/style.css"])
def test_headers_everywhere(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["X-Served-By"].startswith("app1")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_health_asks_no_database(client: FlaskClient, tier: Tier) -> None:
    tier.nothing()
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text, answer.headers["X-App-Version"]) == (200, "ok\n", "1")


class Outline(HTMLParser):
    """What a page is made of, as far as it matters to a keyboard or a screen reader."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("path", ["/", "/login", "/register", "/nothing", "/messages/6/edit", "/messages/6/delete"])
def test_pages_are_accessible_and_self_contained(browser: Browser, path: str) -> None:
    browser.join()
    browser.say("hello")
    outline = Outline(browser.client.get(path).text)
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == len(outline.all("main")) == 1
    assert outline.all("a")[0]["href"] == "#main"
    labelled = {label["for"] for label in outline.all("label")}
    fields = [f for f in outline.all("input") if f["type"] != "hidden"] + outline.all("textarea")
    assert {field["id"] for field in fields} <= labelled
    identifiers = [a["id"] for _tag, a in outline.tags if a.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert not outline.all("script") + outline.all("style")
    assert not [a for _tag, a in outline.tags if "style" in a or any(k[:2] == "on" for k in a)]
    for _tag, attributes in outline.tags:
        for key in ("href", "src", "action"):
            assert (attributes.get(key) or "/")[0] in "/#"
