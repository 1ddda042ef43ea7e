"""Static files: nginx serves them itself, to be kept by browsers and small on the wire."""

import re

import httpx
import pytest

from ladder.settings import ROOT

pytestmark = pytest.mark.stage(0, 1)

STYLE = ROOT / "app/wall/static/style.css"


def test_a_page_names_its_files_by_content_so_that_they_can_be_kept_for_ever(visitor: httpx.Client) -> None:
    page = visitor.get("/").text
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert links

    for link in links:
        response = visitor.get(link)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert visitor.get("/static/style.css").headers["Cache-Control"] == "public, max-age=300"


def test_text_is_compressed_for_who_can_read_it(visitor: httpx.Client) -> None:
    packed = visitor.get("/static/style.css", headers={"Accept-Encoding": "gzip"})
    plain = visitor.get("/static/style.css", headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content == STYLE.read_bytes()
    assert packed.num_bytes_downloaded < plain.num_bytes_downloaded / 2
    for response in (packed, plain):
        assert "Accept-Encoding" in response.headers["Vary"]


def test_pages_with_secrets_in_them_are_not_compressed(visitor: httpx.Client) -> None:
    assert "Content-Encoding" not in visitor.get("/login", headers={"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("name", ["style.css", "favicon.svg"])
def test_what_has_not_changed_is_not_sent_again(visitor: httpx.Client, name: str) -> None:
    first = visitor.get(f"/static/{name}")
    again = visitor.get(f"/static/{name}", headers={"If-None-Match": first.headers["ETag"]})
    changed = visitor.get(f"/static/{name}", headers={"If-None-Match": '"another"'})

    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200


@pytest.mark.parametrize("path", ["/static/../nginx.conf", "/static/%2e%2e/%2e%2e/etc/passwd", "/errors/413.json"])
def test_no_other_file_is_served(visitor: httpx.Client, path: str) -> None:
    response = visitor.send(httpx.Request("GET", str(visitor.base_url) + path, headers={"Host": "www.foobar.com"}))

    assert response.status_code in (400, 404)
    assert "root:" not in response.text
