"""Stage 0 has everything once: any part down is the site down. The stated flaw, shown, and how it ends."""

import json
import time

import httpx
import pytest

from ladder.wait import wait_until
from tests.conftest import Measure, Stack
from tests.traffic import FAULTS, Traffic

BACK_WITHIN = 60.0
"""Seconds from the end of a fault to three successive reads and writes."""
ANSWERED_WITHIN = 12.0
"""Seconds until an error is an answer; the budget says 6 (nginx: connect 1, read 5), the machine is a slow one."""

pytestmark = pytest.mark.stage(0)


@pytest.mark.parametrize("node", ["web1", "app1", "db1"])
def test_any_part_down_is_the_site_down(stack: Stack, traffic: Traffic, measure: Measure, node: str) -> None:
    for verb, undo in FAULTS:
        struck = time.monotonic()
        stack.must(verb, NODE=node)
        if node == "web1":
            with stack.visitor(timeout=3) as visitor, pytest.raises(httpx.TransportError):
                visitor.get("/")
        else:
            traffic.more("read", 10)
        stack.must(undo, NODE=node)
        back = [traffic.recovers(kind, within=BACK_WITHIN) for kind in ("read", "write")]
        during = traffic.history().between(struck, time.monotonic())
        measure(f"{verb}: seconds from its end to reading, writing", [round(each, 1) for each in back])
        measure(verb, during.summary())
        if node != "web1":
            assert during.bad("read"), "nobody noticed: then this stage has a flaw less than it says"
            # As long as nginx is there, it or the application answers in time: a page, not a hanging browser.
            assert not during.of("read", "unknown"), during.told("read")
            assert {r.status for r in during.bad("read")} <= {502, 503, 504}
            assert max(r.end - r.due for r in during.bad("read")) < ANSWERED_WITHIN
    stack.keeps_promises(traffic.run, traffic.stop())


@pytest.mark.parametrize(
    ("node", "title"), [("app1", "The application server does not answer"), ("db1", "Service Unavailable")]
)
def test_errors_are_pages_for_people_and_documents_for_programs(
    stack: Stack, visitor: httpx.Client, node: str, title: str
) -> None:
    stack.must("kill", NODE=node)
    wait_until(lambda: visitor.get("/api/messages").status_code >= 500, within=20, what="it is noticed")
    document, page, style = (visitor.get(path) for path in ("/api/messages", "/", "/static/style.css"))

    assert document.status_code == page.status_code
    assert document.headers["Content-Type"].split(";")[0] == "application/problem+json"
    assert json.loads(document.text)["status"] == document.status_code
    assert json.loads(document.text)["title"] == title
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<h1>" in page.text
    for response in (document, page):
        assert int(response.headers["Retry-After"]) > 0
        assert response.headers["X-Served-By"] == ("web1" if node == "app1" else "web1, app1")
    assert style.status_code == 200, "nginx serves static files by itself"
