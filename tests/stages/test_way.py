"""The way of a request: the site answers by name, every response says who served it, every log knows it by its id."""

import json
import re
from typing import Any

import httpx
import pytest

from ladder.wait import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.stage(0, 1, 2, 3)

FORGED = {
    "X-Forwarded-For": "8.8.8.8",
    "X-Forwarded-Proto": "https",
    "X-Request-ID": "forged-by-a-visitor",
    "X-Load-Balancer": "lb666",
    "X-Web-Server": "web666",
    "X-Served-By": "app666",
}

# What is asked, the status, and the last station that has to be named.
RESPONSES = [
    ("GET", "/", {}, 200, "db"),
    ("GET", "/api/messages", {}, 200, "db"),
    ("GET", "/login", {}, 200, "app"),
    ("GET", "/no-such-page", {}, 404, "app"),
    ("GET", "/api/no-such-thing", {}, 404, "app"),
    ("GET", "/static/style.css", {}, 200, "web"),
    ("GET", "/static/no-such-file", {}, 404, "web"),
    ("POST", "/api/messages", {"content": b"x" * 100_000}, 413, "web"),
    ("POST", "/messages", {"content": b"x" * 100_000}, 413, "web"),
    ("POST", "/api/messages", {"json": {"body": "nobody said this"}}, 401, "app"),
]


def way(stack: Stack, response: httpx.Response) -> tuple[list[str], list[str]]:
    """The stations named by X-Served-By, of which there is one: tiers, then databases."""
    (value,) = response.headers.get_list("X-Served-By")
    stations = value.split(", ")
    return [s for s in stations if not s.startswith("db")], [s for s in stations if s.startswith("db")]


@pytest.mark.parametrize(("method", "path", "content", "status", "last"), RESPONSES)
def test_every_response_names_the_way(
    stack: Stack, visitor: httpx.Client, method: str, path: str, content: dict[str, Any], status: int, last: str
) -> None:
    response = visitor.request(method, path, **content)

    assert response.status_code == status
    tiers, databases = way(stack, response)
    kinds = [tier.rstrip("0123456789") for tier in tiers]
    expected = ["lb", "web", "app"] if stack.stage.number else ["web", "app"]
    assert kinds == (expected[:-1] if last == "web" else expected)
    assert set(tiers) <= set(stack.stage.nodes)
    numbers = {tier[-1] for tier in tiers if tier[:3] in ("web", "app")}
    if not stack.stage.apart:
        assert len(numbers) == 1, "a web server reached an application server of another server group"
    assert bool(databases) == (last == "db")
    assert set(databases) <= set(stack.stage.databases)
    assert re.fullmatch(r"[0-9a-f-]{32,36}", response.headers["X-Request-ID"])


def test_logs_of_all_tiers_know_the_request_by_its_id(stack: Stack, visitor: httpx.Client) -> None:
    response = visitor.get("/api/messages?limit=3", headers=FORGED)
    ident = response.headers["X-Request-ID"]
    tiers, _ = way(stack, response)
    assert ident != FORGED["X-Request-ID"]

    def told() -> list[dict[str, Any]]:
        """The line of each tier; nginx writes its own within a second or two."""
        lines = [next((x for x in stack.log(tier).splitlines() if ident in x), "") for tier in tiers]
        return [json.loads(line) for line in lines] if all(lines) else []

    lines = wait_until(told, within=15, what=f"the logs of {tiers} have {ident}")
    caller = f"{stack.settings.subnet_prefix}.0.1"
    for tier, line in zip(tiers, lines, strict=True):
        assert line["id"] == ident, tier
        assert line["uri"].partition("?")[0] == "/api/messages", tier
        assert line["status"] == 200, tier
        # From loopback the engine lets us see the host's side of the bridge; never what the visitor claims.
        assert line.get("visitor", line.get("client")) == caller, tier


def test_what_a_visitor_claims_is_not_believed(stack: Stack, visitor: httpx.Client) -> None:
    response = visitor.get("/api/served-by", headers=FORGED)
    told = response.json()

    tiers, _ = way(stack, response)
    assert [told[kind] for kind in ("lb", "web", "app") if told[kind]] == tiers
    assert (told["lb"] is None) == (stack.stage.number == 0)
    assert "666" not in response.text + str(response.headers)


def test_the_site_answers_to_its_bare_name_too(visitor: httpx.Client) -> None:
    response = visitor.get("/", headers={"Host": "foobar.com"})

    assert response.status_code == 200
    assert "<article" in response.text, "the wall is empty at first sight"


def test_pages_tell_the_way_in_their_strip(stack: Stack, visitor: httpx.Client) -> None:
    response = visitor.get("/")

    tiers, databases = way(stack, response)
    strip = re.search(r'<section class="way".*?</section>', response.text, re.DOTALL)
    assert strip
    for station in (*tiers, *databases):
        assert f"<b>{station}</b>" in strip[0]


@pytest.mark.parametrize("path", ["/", "/login", "/no-such-page", "/api/messages"])
def test_pages_are_guarded_by_headers(stack: Stack, visitor: httpx.Client, path: str) -> None:
    headers = visitor.get(path).headers

    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] in ("no-cache", "no-store", "private, no-store")
    assert "/" not in headers["Server"], "the version is nobody's business"
