"""What a visitor of stage 0 is told while a part is down."""

import json

import httpx
import pytest

from ladder.wait import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.stage(0)


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
