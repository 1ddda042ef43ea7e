"""What becomes of a second receiver that is not as it should be. A real one takes what is brought in tests/stages."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ladder import credentials, receiver, settings
from ladder.errors import UserError
from ladder.settings import Settings

DEFAULTS = settings.read(settings.DEFAULTS)
WANTED = "Bearer 0123456789"


class Answering(BaseHTTPRequestHandler):
    """Takes writes at one path, from whoever has the token; repeats what it refuses."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 404 if self.path != "/write?org=1" else 204 if self.headers["Authorization"] == WANTED else 403
        self.send_response(status if body == receiver.NOTHING else 400)
        self.end_headers()
        if status >= 400:
            self.wfile.write(f"can't POST {self.path}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(credentials, "FOLDER", tmp_path)
    monkeypatch.setattr(receiver, "loopback", lambda _: False)
    (tmp_path / "token").write_text("0123456789\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "marked").write_text("\ufeff0123456789\n")
    return tmp_path


def given(url: str, file: Path | str = "", **values: str) -> Settings:
    raw = DEFAULTS | {"REMOTE_WRITE_URL": url, "REMOTE_WRITE_PASSWORD_FILE": str(file)} | values
    return settings.check(raw, "stage2")


def test_one_that_takes_writes_is_known_by_its_address_and_its_token_is_a_secret(port: int, folder: Path) -> None:
    url = f"http://localhost:{port}/write?org=1"
    found, secrets = receiver.prepare(given(url, folder / "token"))
    assert found.raw["REMOTE_WRITE_RECEIVER"] == "localhost:127.0.0.1"
    assert found.raw["REMOTE_WRITE_PORT"] == str(port)
    assert secrets == {credentials.RECEIVER: "0123456789", credentials.RECEIVER_URL: url, credentials.WEBHOOK: ""}
    assert {path.name for path in folder.iterdir()} == {"token", "empty", "marked"}, (
        "nothing is changed before all is well"
    )


def test_without_one_there_is_neither_address_nor_secret(folder: Path) -> None:
    found, secrets = receiver.prepare(given("", REMOTE_WRITE_RECEIVER="old.example:192.0.2.1", REMOTE_WRITE_PORT="80"))
    assert found.raw["REMOTE_WRITE_RECEIVER"] == found.raw["REMOTE_WRITE_PORT"] == ""
    assert not any(secrets.values())


@pytest.mark.parametrize("url", ["http://localhost:1/write", "http://127.0.0.2:1/write"])
def test_one_that_only_this_machine_reaches_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match="in a container is the container itself"):
        receiver.prepare(given(url))


def test_a_secret_is_kept_in_the_same_file(folder: Path) -> None:
    """A running container has that one, and would not see another in its place."""
    assert credentials.stored(credentials.RECEIVER_URL) is None
    credentials.store(credentials.RECEIVER_URL, "https://x.example/one")
    file = folder / credentials.RECEIVER_URL
    before = file.stat().st_ino
    credentials.store(credentials.RECEIVER_URL, "https://x.example/two")
    assert (credentials.stored(credentials.RECEIVER_URL), file.stat().st_ino) == ("https://x.example/two", before)
    assert file.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize(
    ("url", "file", "said"),
    [
        ("http://localhost:{port}/write?org=1", "", "refuses the credentials (403"),
        ("http://localhost:{port}/elsewhere", "token", "takes no remote writes at this path (404"),
        ("https://localhost:{port}/write?org=1", "token", "does not answer"),
        ("http://localhost:1/write", "token", "does not answer"),
        ("http://nobody.invalid/write", "token", "nobody.invalid has no address"),
        ("http://localhost:99999/write", "token", "localhost has no address (Port out of range"),
        ("http://a..b/write", "token", "a..b has no address"),
        ("http://localhost:{port}/write?org=1", "missing", "can't be read"),
        ("http://localhost:{port}/write?org=1", "empty", "one line with a password or token belongs there"),
        ("http://localhost:{port}/write?org=1", "marked", "one line with a password or token belongs there"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_that_says_how_to_go_on(
    port: int, folder: Path, url: str, file: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        receiver.prepare(given(url.format(port=port), folder / file if file else ""))
    assert said in str(error.value)
    assert "nothing was changed. Mend it, or leave it out" in str(error.value)
    assert "/write" not in str(error.value), "the path may be a secret"
    assert "/elsewhere" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://x/", "metrics.example.com", "http://user:word@x/", 'http://x/"', "http://x/\nremote_read: []", "http:///x"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="REMOTE_WRITE_URL=…: a receiver's URL") as refused:
        given(url)
    assert repr(url) not in str(refused.value), "it may hold a token"


def test_a_user_makes_it_basic_a_secret_alone_a_bearers() -> None:
    assert receiver.authorization("ada", "lovelace") == {"Authorization": "Basic YWRhOmxvdmVsYWNl"}
    assert receiver.authorization("", "lovelace") == {"Authorization": "Bearer lovelace"}
    assert receiver.authorization("", "") == {}
