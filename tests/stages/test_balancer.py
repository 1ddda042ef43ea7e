"""The balancer of stage 1: how it shares requests, by each algorithm and mode, and what `make lb` says of it."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from ladder.errors import UserError
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import Stack

pytestmark = pytest.mark.stage(1)

REQUESTS = 60


def shares(stack: Stack, requests: int = REQUESTS) -> Counter[str]:
    """Who answers how many; asked again if a health check failed meanwhile, or a request was tried again."""
    for _ in range(3):
        before, found = doubts(stack), answered(stack, requests)
        if doubts(stack) == before:
            break
    return found


def answered(stack: Stack, requests: int) -> Counter[str]:
    """Which web server answers how many of some requests, sent one after the other by one visitor."""
    with stack.visitor() as visitor:
        answers = [visitor.get("/static/favicon.svg") for _ in range(requests)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["X-Served-By"].split(", ")[1] for answer in answers)


def table(stack: Stack) -> dict[str, list[str]]:
    """The rows of `make lb` by server."""
    rows = [[cell.strip() for cell in line.split("│")][1:] for line in stack.must("lb").splitlines()]
    return {row[0]: row for row in rows if row and row[0].startswith("web")}


def sessions(stack: Stack, node: str, what: str) -> int:
    """How many a balancer has now: with visitors ("visitors 1 -1"), or with web servers ("web 4 -1")."""
    return stat(stack, node, what, "scur")


def doubts(stack: Stack) -> int:
    """How often the balancer was in doubt of a web server."""
    return sum(stat(stack, "lb1", "web 4 -1", column) for column in ("chkfail", "wretr", "wredis"))


def stat(stack: Stack, node: str, what: str, column: str) -> int:
    """A sum of HAProxy's own figures."""
    ask = f"echo 'show stat {what}' | socat -t3 - /run/haproxy.sock"
    rows = csv.DictReader(stack.run_in(node, "as-server", "sh", "-c", ask).removeprefix("# ").splitlines())
    return sum(int(row[column]) for row in rows if row[column])


@pytest.fixture
def other_values(stack: Stack) -> Iterator[None]:
    """Bring the default values back at the end, whatever happened."""
    yield
    stack.up = -1
    stack.must("up", STAGE="1", LB_ALGORITHM="roundrobin", LB_MODE="active-active")
    stack.is_up(1)


def test_round_robin_shares_evenly(stack: Stack, measure: Measure) -> None:
    found = shares(stack)

    measure("share", dict(found))
    assert found == {"web1": REQUESTS // 2, "web2": REQUESTS // 2}


def test_make_lb_counts_what_the_balancer_did(stack: Stack) -> None:
    before = {name: int(row[4]) for name, row in table(stack).items()}
    shares(stack, 20)
    after = table(stack)

    assert {name: int(row[4]) - before[name] for name, row in after.items()} == {"web1": 10, "web2": 10}
    assert {row[1].split()[0] for row in after.values()} == {"UP"}  # "UP 1/2" after a check that failed
    assert {row[2] for row in after.values()} == {"active"}
    assert "roundrobin, active-active" in stack.must("lb")


def test_every_algorithm_and_mode(stack: Stack, other_values: None, measure: Measure) -> None:
    stack.must("up", STAGE="1", LB_ALGORITHM="source", LB_MODE="active-active")
    stuck = shares(stack)
    measure("source", dict(stuck))
    assert len(stuck) == 1, "one visitor met two servers"
    assert "source, active-active" in stack.must("lb")

    stack.must("up", STAGE="1", LB_ALGORITHM="leastconn")
    spread = shares(stack)
    measure("leastconn", dict(spread))
    assert set(spread) == {"web1", "web2"}, "among idle servers it takes turns"
    assert "leastconn" in stack.must("lb")

    stack.must("up", STAGE="1", LB_ALGORITHM="roundrobin", LB_MODE="active-passive")
    assert shares(stack) == {"web1": REQUESTS}
    assert {name: row[2] for name, row in table(stack).items()} == {"web1": "active", "web2": "backup"}
    stack.must("kill", NODE="web1")
    assert shares(stack) == {"web2": REQUESTS}, "the backup takes over without a failed request"
    stack.must("start", NODE="web1")
    wait_until(lambda: table(stack)["web1"][1] == "UP", within=30, what="the balancer sees web1 again")
    assert shares(stack) == {"web1": REQUESTS}


def test_values_of_the_balancer_are_checked(stack: Stack) -> None:
    refused = stack.make("up", STAGE="1", LB_ALGORITHM="random", LB_MODE="both")

    assert refused.returncode != 0
    for word in ("LB_ALGORITHM", "leastconn", "LB_MODE", "active-passive"):
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_health_checks_do_not_ask_the_database(stack: Stack, visitor: httpx.Client) -> None:
    """Else one dead database would take every server out."""
    stack.must("pause", NODE="db1")
    stack.must("pause", NODE="db2")
    assert visitor.get("/login").status_code == 200
    assert {row[1].split()[0] for row in table(stack).values()} == {"UP"}
    assert visitor.get("/static/style.css").status_code == 200


def refusals(stack: Stack, paths: Sequence[str]) -> list[httpx.Response]:
    """What visitors are told of a web server that ends without an answer, of a silent one, and when there is none."""

    def post(path: str) -> httpx.Response | None:
        """None over a connection to the server that was used before: then HAProxy just closes the visitor's, who knows
        that it may have been at its end (RFC 9112, section 9.5).
        """
        with stack.visitor() as visitor, suppress(httpx.RemoteProtocolError):
            return visitor.post(path, content=b"x")
        return None

    stack.broken = True
    # A frozen web server that is killed thaws first, and may still answer: web1 waits for its application instead.
    for node in ("app1", "web2"):
        stack.node(node).pause()
    with ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(post, path) for path in paths for _ in range(8)]  # to both servers, in turn
        with suppress(UserError):  # not all, if one was given up meanwhile
            wait_until(lambda: sessions(stack, "lb1", "web 4 -1") == len(sent), within=5, what="all wait for an answer")
        stack.node("web1").kill(signal="SIGKILL")
        answers = [answer for each in sent if (answer := each.result())]
    with stack.visitor() as visitor:
        wait_until(lambda: visitor.get("/").status_code == 503, within=20, what="nobody is left")
        return answers + [visitor.get(path) for path in paths]


def test_what_it_answers_itself_is_a_document_for_programs_and_a_page_for_people(stack: Stack) -> None:
    """502, 504 and 503. Unlike a GET, a POST without a key is sent to no other server."""
    expected = {"/api/messages": "application/problem+json", "/login": "text/html"}
    for _ in range(3):
        answers = refusals(stack, [*expected])
        if {answer.headers["X-Served-By"] for answer in answers} == {"lb1"}:
            break
        stack.must("heal")  # web1 was not killed in time, and has told itself that its application is silent

    assert {(answer.request.url.path, answer.status_code) for answer in answers} == {
        (path, status) for path in expected for status in (502, 503, 504)
    }
    for answer in answers:
        assert answer.headers["Content-Type"].split(";")[0] == expected[answer.request.url.path]
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["X-Served-By"] == "lb1"
        if answer.request.url.path == "/login":
            assert "<h1>" in answer.text
        else:
            assert answer.json()["status"] == answer.status_code
