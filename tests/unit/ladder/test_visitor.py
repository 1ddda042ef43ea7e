"""The visitor tells the truth about a server that misbehaves: the real one, in its process, against a small site."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ladder.drills.checker import check
from ladder.drills.record import Begin, Moment, Record, Request, line, load, parse
from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.unit.ladder.fakes import (
    ACKNOWLEDGED,
    LIST,
    WALL,
    WITHIN,
    Asked,
    Behaviour,
    Site,
    Stall,
    answer,
    content,
    saying,
    well,
)

RUN, TOKEN = "0123456789ab", "a-token"


class Visit:
    """The visitor's process, started as a drill starts it."""

    def __init__(self, port: int, path: Path, reads: float, writes: float, *options: str) -> None:
        self.zero = time.monotonic()
        self._path = path
        path.write_text(line("begin", **asdict(Begin(RUN, 1, "", reads, writes, 10.0, ""))))
        words = ["--address=127.0.0.1", f"--port={port}", f"--run={RUN}", f"--zero={self.zero}"]
        words += [f"--reads={reads}", f"--writes={writes}", f"--record={path}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ladder.drills.visitor", *words, *options], cwd=ROOT, stdin=subprocess.PIPE
        )
        assert self.process.stdin
        self.process.stdin.write(TOKEN.encode() + b"\n")
        self.process.stdin.flush()

    def now(self) -> float:
        return time.monotonic() - self.zero

    def requests(self) -> tuple[Request, ...]:
        """Those that have ended."""
        return parse(self._path.read_text().splitlines(keepends=True)).requests

    def until(self, number: int) -> None:
        """Return when so many have ended."""
        wait_until(lambda: len(self.requests()) >= number, within=WITHIN, what=f"{number} requests end", every=0.05)

    def more(self, number: int) -> None:
        """Return when so many that are due from now on have ended."""
        now = self.now()
        wait_until(
            lambda: sum(each.due >= now for each in self.requests()) >= number,
            within=WITHIN,
            what=f"{number} more requests end",
            every=0.05,
        )

    def end(self) -> Record:
        """Ask it to end, again and again, which must not cut its last words off; its record."""

        def ended() -> bool:
            self.process.send_signal(signal.SIGTERM)
            return self.process.poll() is not None

        wait_until(ended, within=WITHIN, what="the visitor ends", every=0.001)
        assert self.process.returncode == 0
        return load(self._path)


Visiting = Callable[..., Visit]


@pytest.fixture
def visiting(tmp_path: Path) -> Iterator[Visiting]:
    """Starts a visitor: the port, reads and writes a second, further options."""
    begun: list[Visit] = []

    def begin(port: int, reads: float, writes: float, *options: str) -> Visit:
        begun.append(Visit(port, tmp_path / f"{len(begun)}.jsonl", reads, writes, *options))
        return begun[-1]

    yield begin
    for visit in begun:
        visit.process.kill()
        visit.process.wait()


Serving = Callable[[Behaviour], Site]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Starts a site."""
    begun: list[Site] = []

    def begin(behaviour: Behaviour) -> Site:
        begun.append(Site(behaviour))
        return begun[-1]

    yield begin
    for site in begun:
        site.stop()


def on_schedule(record: Record, kind: str, rate: float) -> None:
    """Every request is there, and each was due at its time; times are written to 0.1 ms."""
    dues = [request.due for request in record.of(kind)]
    assert dues == pytest.approx([dues[0] + number / rate for number in range(len(dues))], abs=2e-4)


def each_once(site: Site, record: Record) -> None:
    """The site was asked exactly what the record says that it was asked."""
    assert len(site.asked) == len(record.requests)
    texts = Counter(asked.text for asked in site.asked if asked.body)
    assert texts == Counter(write.text for write in record.of("write"))
    assert set(texts.values()) <= {1}


def test_a_site_that_is_well_is_told_as_it_is(serving: Serving, visiting: Visiting) -> None:
    site = serving(well)
    visit = visiting(site.port, 40, 20)
    visit.until(60)
    record = visit.end()

    assert {request.outcome for request in record.requests} == {"ok"}
    assert {request.served_by for request in record.requests} == {"web1, app1"}
    assert {(read.status, read.newest, read.id, read.text) for read in record.of("read")} == {(200, 12, 0, "")}
    assert {(write.status, write.newest, write.id) for write in record.of("write")} == {(201, 0, 77)}
    assert [write.text for write in record.of("write")] == [f"{RUN} {n}" for n in range(len(record.of("write")))]
    on_schedule(record, "read", 40)
    on_schedule(record, "write", 20)
    each_once(site, record)


def test_half_of_the_requests_open_a_connection_and_half_take_a_kept_one(serving: Serving, visiting: Visiting) -> None:
    """Two in turn each, so that both pages are asked for on both. Before any is kept, all open one."""
    site = serving(well)
    visit = visiting(site.port, 20, 20)
    visit.until(60)
    record = visit.end()

    for kind in ("read", "write"):
        ways = [request.connection for request in record.of(kind)]
        assert {way for number, way in enumerate(ways) if number % 4 in (2, 3)} == {"new"}
        assert "kept" in [way for number, way in enumerate(ways) if number % 4 in (0, 1)]
    assert site.connections == sum(request.connection == "new" for request in record.requests)
    uses = Counter(asked.connection for asked in site.asked)
    writes = [(int(asked.text.split()[1]), asked) for asked in site.asked if asked.body]
    assert {uses[asked.connection] for number, asked in writes if number % 4 in (2, 3)} == {1}, "closed after use"
    reads = Counter((asked.words, asked.turn > 0) for asked in site.asked if not asked.body)
    assert {*reads} == {(words, kept) for words in ("GET /", "GET /api/messages") for kept in (False, True)}


def test_a_write_carries_token_and_key(serving: Serving, visiting: Visiting) -> None:
    site = serving(well)
    visit = visiting(site.port, 0, 20)
    visit.until(4)
    visit.end()

    for asked in site.asked:
        assert asked.words == "POST /api/messages"
        assert asked.headers["host"] == "www.foobar.com"
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["idempotency-key"] == f'"{asked.text}"'


def test_without_keys_a_write_carries_none(serving: Serving, visiting: Visiting) -> None:
    site = serving(well)
    visit = visiting(site.port, 0, 20, "--without-keys")
    visit.until(4)
    record = visit.end()

    assert not [asked for asked in site.asked if "idempotency-key" in asked.headers]
    assert {write.outcome for write in record.requests} == {"ok"}


async def in_chunks(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Of a few bytes, each on its own way."""
    head, _, body = content(asked).partition(b"\r\n\r\n")
    writer.write(head.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nX-Was: ") + b"\r\n\r\n")
    for begin in range(0, len(body), 7):
        part = body[begin : begin + 7]
        writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
    return True


async def until_the_end(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """No length: the end of the connection is the end of the answer."""
    writer.write(content(asked).replace(b"Content-Length: ", b"Connection: close\r\nX-Was: "))
    return False


async def after_a_hint(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" + content(asked))
    return True


@pytest.mark.parametrize("behaviour", [in_chunks, until_the_end, after_a_hint])
def test_an_answer_may_come_in_any_form(serving: Serving, visiting: Visiting, behaviour: Behaviour) -> None:
    site = serving(behaviour)
    visit = visiting(site.port, 20, 20)
    visit.until(16)
    record = visit.end()

    assert {request.outcome for request in record.requests} == {"ok"}
    assert {read.newest for read in record.of("read")} == {12}
    assert {write.id for write in record.of("write")} == {77}
    each_once(site, record)


@pytest.mark.parametrize(
    ("words", "outcome", "status"),
    [
        (answer(503, "no server is left", "text/html", "Retry-After: 5"), "failed", 503),
        (answer(200, "<h1>The wall</h1> no messages", "text/html"), "failed", 200),
        (answer(200, '{"messages": [], "next": null}'), "failed", 200),
        (answer(200, "<!doctype html>"), "failed", 200),
        (answer(201, '{"id": null}'), "failed", 201),
        (answer(201, '{"id": 1e999}'), "failed", 201),
        (answer(204, ""), "failed", 204),
        (answer(500, WALL, "text/html"), "failed", 500),
        (answer(500, LIST), "failed", 500),
        (answer(503, ACKNOWLEDGED), "failed", 503),
        (answer(200, ACKNOWLEDGED), "failed", 200),
        (b"", "unknown", 0),
        (b"HTTP/1.1 200", "unknown", 0),
        (answer(200, WALL, "text/html")[:-5], "unknown", 0),
        (answer(201, ACKNOWLEDGED)[:-1], "unknown", 0),
        (b"what is this?\r\n\r\n", "unknown", 0),
    ],
    ids=[
        "503",
        "an empty wall",
        "an empty list",
        "no JSON",
        "no id",
        "an endless id",
        "no content",
        "a wall with an error",
        "a list with an error",
        "an id with an error",
        "an id without 201",
        "closed without an answer",
        "closed within the first line",
        "closed within the page",
        "closed within the acknowledgement",
        "not HTTP",
    ],
)
def test_anything_but_a_good_answer_is_no_success_and_is_not_repeated(
    serving: Serving, visiting: Visiting, words: bytes, outcome: str, status: int
) -> None:
    site = serving(saying(words, stays=status > 0))
    visit = visiting(site.port, 40, 40)
    visit.until(16)
    record = visit.end()

    assert {(request.outcome, request.status) for request in record.requests} == {(outcome, status)}
    if b"no server" in words:
        assert {request.said for request in record.requests} == {"no server is left"}
    each_once(site, record)


def test_a_read_is_not_acknowledged_and_a_write_shows_nothing(serving: Serving, visiting: Visiting) -> None:
    site = serving(saying(answer(200, LIST)))
    visit = visiting(site.port, 20, 20)
    visit.until(16)
    record = visit.end()

    assert {read.outcome for read in record.of("read")} == {"ok"}
    assert {write.outcome for write in record.of("write")} == {"failed"}


def test_a_server_that_never_answers_leaves_it_unknown_and_the_visitor_goes_away(
    serving: Serving, visiting: Visiting
) -> None:
    async def silent(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.Event().wait()
        return True

    site = serving(silent)
    visit = visiting(site.port, 20, 20, "--patience=4")
    visit.until(20)
    record = visit.end()

    assert {request.outcome for request in record.requests} == {"unknown"}
    assert min(request.latency for request in record.requests) >= 4
    assert {request.said for request in record.requests} == {"TimeoutError: "}
    each_once(site, record)


def test_a_refused_connection_is_failed_and_not_unknown(visiting: Visiting) -> None:
    """Nothing was sent, so nothing can have happened."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))  # and doesn't listen
        visit = visiting(bound.getsockname()[1], 20, 20)
        visit.until(16)
        record = visit.end()

    assert {(request.outcome, request.connection) for request in record.requests} == {("failed", "new")}
    assert all("refused" in request.said or "Connect call failed" in request.said for request in record.requests)


def test_a_connection_that_never_opens_is_failed_and_not_unknown(visiting: Visiting) -> None:
    """The server's queue is full: what more comes is dropped."""
    with closing(socket.socket()) as full, closing(socket.socket()) as one, closing(socket.socket()) as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (one, two):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        visit = visiting(full.getsockname()[1], 20, 20, "--patience=0.5")
        visit.until(16)
        record = visit.end()

    assert {(request.outcome, request.said) for request in record.requests} == {("failed", "TimeoutError: ")}


def test_in_a_stall_requests_leave_on_schedule_and_are_timed_from_when_they_were_due(
    serving: Serving, visiting: Visiting
) -> None:
    """The stall ends when the site has got what is due in one second: a closed loop would never send it."""
    stall = Stall()
    site = serving(well)
    visit = visiting(site.port, 50, 0, "--patience=60")
    visit.until(10)
    before = site.do(site.turn(stall))
    began = visit.now()
    wait_until(lambda: len(site.asked) >= before + 50, within=WITHIN, what="50 requests in a stall", every=0.02)
    ended = site.do(stall.end()) - visit.zero
    visit.more(10)
    record = visit.end()

    on_schedule(record, "read", 50)
    due = [read for read in record.requests if began <= read.due < ended]
    assert len(due) == pytest.approx(50 * (ended - began), abs=1)
    held_up = [read for read in record.requests if read.sent < ended <= read.end + 2e-4]
    assert len(held_up) >= 50
    assert max(read.latency for read in record.requests) >= ended - due[0].due - 2e-4
    assert {read.outcome for read in record.requests} == {"ok"}
    each_once(site, record)


def test_a_visitor_that_stood_still_says_so_and_its_record_is_void(serving: Serving, visiting: Visiting) -> None:
    site = serving(well)
    visit = visiting(site.port, 50, 0)
    visit.until(10)
    visit.process.send_signal(signal.SIGSTOP)
    stopped = visit.now()
    time.sleep(0.7)
    thawed = visit.now()
    visit.process.send_signal(signal.SIGCONT)
    visit.more(10)
    record = visit.end()

    on_schedule(record, "read", 50)
    late = [read for read in record.requests if stopped + 0.1 <= read.due < thawed - 0.3]
    assert len(late) >= 10
    assert all(read.sent >= thawed - 0.01 and read.latency >= thawed - read.due - 0.01 for read in late)
    drill = replace(record, faults=(Moment(stopped, stopped),), heals=(Moment(thawed, thawed),))
    assert check(drill).void.startswith("the visitor could not keep its schedule")


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_kept_connection_that_is_closed_while_idle_is_no_failure(
    serving: Serving, visiting: Visiting, how: str
) -> None:
    """The visitor is stopped meanwhile, so that none of its requests can be under way."""
    site = serving(well)
    visit = visiting(site.port, 5, 5)

    async def asked() -> int:
        for _ in range(20):  # what has come is read
            await asyncio.sleep(0)
        return len(site.asked)

    def stopped_while_idle() -> bool:
        visit.process.send_signal(signal.SIGSTOP)
        if len(visit.requests()) == site.do(asked()) >= 8:
            return True
        visit.process.send_signal(signal.SIGCONT)
        return False

    wait_until(stopped_while_idle, within=WITHIN, what="nothing is under way", every=0.05)
    assert site.do(site.close_idle(how)) > 0
    visit.process.send_signal(signal.SIGCONT)
    visit.more(8)
    record = visit.end()

    assert {request.outcome for request in record.requests} == {"ok"}
    each_once(site, record)


def test_a_request_on_a_kept_connection_that_breaks_is_not_repeated(serving: Serving, visiting: Visiting) -> None:
    async def once(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        return not asked.turn and await well(asked, writer)

    site = serving(once)
    visit = visiting(site.port, 20, 20)
    visit.until(60)
    record = visit.end()

    assert {request.outcome for request in record.requests if request.connection == "kept"} == {"unknown"}
    assert {request.outcome for request in record.requests if request.connection == "new"} == {"ok"}
    each_once(site, record)


def test_sigterm_ends_it_when_what_is_under_way_has_ended_and_its_cost_is_told(
    serving: Serving, visiting: Visiting
) -> None:
    stall = Stall()
    site = serving(stall)
    visit = visiting(site.port, 20, 20, "--patience=60")
    wait_until(lambda: len(site.asked) >= 10, within=WITHIN, what="10 requests are under way", every=0.05)
    visit.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        visit.process.wait(0.5)
    site.do(stall.end())
    record = visit.end()

    assert len(record.requests) >= 10
    assert {request.outcome for request in record.requests} == {"ok"}
    assert record.cpu
    each_once(site, record)


def test_it_ends_with_whoever_started_it(serving: Serving, visiting: Visiting) -> None:
    """A drill that is killed closes its end of the pipe and says nothing else."""
    visit = visiting(serving(well).port, 20, 20)
    visit.until(10)
    assert visit.process.stdin
    visit.process.stdin.close()

    assert visit.process.wait(WITHIN) == 0


def test_a_visitor_that_is_killed_tells_no_cost_so_that_its_record_is_void(
    serving: Serving, visiting: Visiting, tmp_path: Path
) -> None:
    visit = visiting(serving(well).port, 20, 20)
    visit.until(10)
    visit.process.kill()
    visit.process.wait(WITHIN)

    assert load(tmp_path / "0.jsonl").cpu is None


def test_an_answer_that_breaks_the_visitor_is_not_left_out_in_silence(
    serving: Serving, visiting: Visiting, tmp_path: Path
) -> None:
    """It ends with an error and without its cost: the record is void."""
    deep = 1_000_000
    visit = visiting(serving(saying(answer(200, deep * "["))).port, 20, 0)

    assert visit.process.wait(WITHIN) != 0
    assert load(tmp_path / "0.jsonl").cpu is None
