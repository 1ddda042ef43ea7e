"""A record is read as it was written, or refused with the line that is wrong."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ladder.drills.record import (
    KINDS,
    OUTCOMES,
    Begin,
    Moment,
    Record,
    Request,
    Stored,
    line,
    load,
    parse,
    request_line,
)
from ladder.errors import UserError
from tests.unit.ladder.forged import lines_of

BEGIN = Begin("0123456789ab", 1, "kill web1", 100.0, 20.0, 10.0, "2026-01-01T00:00:00+00:00", "abc", "2 cores")
READ = Request("read", 0.01, 0.0102, 0.0123, "ok", "kept", 200, "lb1, web1, app1, db2", newest=7)
WRITE = Request("write", 0.05, 0.0501, 10.05, "unknown", "new", text="0123456789ab 1", said="TimeoutError: ")


def some(chance: random.Random) -> Record:
    """Any record: few of everything, or nothing."""

    def time() -> float:
        return round(chance.uniform(0, 60), 4)

    def word() -> str:
        return "".join(chance.choices('az 09,:"\\\n\u2028–€😀', k=chance.randrange(9)))

    def request() -> Request:
        due, sent, end = sorted((time(), time(), time()))
        kind, outcome = chance.choice(KINDS), chance.choice(OUTCOMES)
        number = chance.randrange(3)
        return Request(kind, due, sent, end, outcome, "new", number, word(), number, word(), number, word())

    def moment() -> Moment:
        return Moment(time(), time(), word(), tuple(word() for _ in range(chance.randrange(3))))

    def stored() -> Stored:
        return Stored(word(), word(), tuple((chance.randrange(99), word()) for _ in range(chance.randrange(3))))

    return Record(
        replace(BEGIN, run=word(), reads=time(), machine=word()),
        tuple(sorted((request() for _ in range(chance.randrange(6))), key=lambda each: each.due)),
        tuple(moment() for _ in range(chance.randrange(3))),
        tuple(moment() for _ in range(chance.randrange(3))),
        tuple(time() for _ in range(chance.randrange(3))),
        tuple(stored() for _ in range(chance.randrange(3))),
        chance.choice([None, 0.0, time()]),
        tuple(word() for _ in range(chance.randrange(3))),
    )


def test_any_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    chance = random.Random(4)
    for turn in range(300):
        record = some(chance)
        path = tmp_path / f"{turn}.jsonl"
        path.write_text("".join(lines_of(record)), encoding="utf-8")
        assert load(path) == record


def test_what_one_request_leaves_empty_is_not_written() -> None:
    assert json.loads(request_line(READ)) == {
        "event": "request",
        "kind": "read",
        "due": 0.01,
        "sent": 0.0102,
        "end": 0.0123,
        "outcome": "ok",
        "connection": "kept",
        "status": 200,
        "served_by": "lb1, web1, app1, db2",
        "newest": 7,
    }


def test_the_roles_of_each_phase_are_those_of_its_time() -> None:
    """By then a promotion may have changed them."""
    begin = line("begin", **asdict(replace(BEGIN, faults="promote then kill db1")))
    assert parse([begin]).means == "promote then kill db1"
    assert parse([begin, *(line("phase", means=means) for means in ("promote", "kill replica"))]).means == (
        "promote then kill replica"
    )


def test_times_are_written_to_a_tenth_of_a_millisecond() -> None:
    written = json.loads(request_line(replace(READ, due=0.0, sent=1.00004, end=2.00006)))
    assert (written["due"], written["sent"], written["end"]) == (0.0, 1.0, 2.0001)


def test_requests_are_in_the_order_in_which_they_were_due() -> None:
    """The visitor writes each when it has ended."""
    lines = [
        line("begin", **asdict(BEGIN)),
        *map(request_line, [replace(WRITE, due=3.0), READ, replace(READ, due=1.0, end=1.1)]),
    ]
    assert [request.due for request in parse(lines).requests] == [0.01, 1.0, 3.0]


def test_numbers_of_the_beginning_may_be_written_as_text() -> None:
    """A record that other hands wrote: what is computed with is a number all the same."""
    fields = {**asdict(BEGIN), "reads": "100", "writes": "20.0", "patience": "10"}
    assert parse([line("begin", **fields)]).begin == BEGIN
    with pytest.raises(ValueError, match="line 1"):
        parse([line("begin", **{**fields, "reads": "many"})])


def test_a_visitor_that_was_killed_has_told_no_cost() -> None:
    assert parse([line("begin", **asdict(BEGIN))]).cpu is None


@pytest.mark.parametrize("rest", ['{"event":"requ', '{"event":"redundant","at":1}', "\x00"])
def test_a_last_line_without_its_end_is_left_out(rest: str) -> None:
    assert parse([line("begin", **asdict(BEGIN)), request_line(READ), rest]) == Record(BEGIN, (READ,))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "not JSON",
        "[]",
        "7",
        "null",
        '{"event":"request","kind":"read"',
        "{}",
        '{"event":"what nobody knows"}',
        '{"event":["request"]}',
        '{"event":"request","kind":"read","due":1,"sent":1,"outcome":"ok","connection":"new"}',
        '{"event":"request","kind":"reed","due":1,"sent":1,"end":1,"outcome":"ok","connection":"new"}',
        '{"event":"request","kind":"read","due":1,"sent":1,"end":1,"outcome":"fine","connection":"new"}',
        '{"event":"request","kind":"read","due":1,"sent":1,"end":1,"outcome":"ok","connection":"new","more":1}',
        '{"event":"request","kind":"read","due":"1","sent":1,"end":1,"outcome":"ok","connection":"new"}',
        '{"event":"request","kind":"read","due":2,"sent":1,"end":1,"outcome":"ok","connection":"new"}',
        '{"event":"fault","at":1}',
        '{"event":"heal","at":1,"done":2}',
        '{"event":"redundant"}',
        '{"event":"visitor","at":1}',
        '{"event":"stored","node":"db1","role":"primary","messages":[1]}',
        '{"event":"begin","run":"x"}',
        f'{request_line(READ).strip()}{{"event":"stored"}}',
    ],
)
def test_a_broken_line_is_told_by_its_number(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(line("begin", **asdict(BEGIN)) + request_line(READ) + wrong + "\n" + request_line(WRITE))
    with pytest.raises(UserError, match=r"broken\.jsonl is not the record of a drill: line 3: "):
        load(path)


@pytest.mark.parametrize("content", ["", request_line(READ), 2 * line("begin", **asdict(BEGIN))])
def test_a_record_has_one_beginning(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="no beginning, or several"):
        load(path)


@pytest.mark.parametrize("content", [b"<!doctype html>\n", b"\xff\xfe\x00\n", b"\x89PNG\r\n\x1a\n"])
def test_another_file_is_not_a_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.html"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.html is not the record of a drill"):
        load(path)


def test_a_record_that_is_not_there_is_told_with_where_they_are(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match=r"can't be read: .* are in \.ladder/drills/"):
            load(path)


def test_a_request_tells_itself_to_people() -> None:
    assert str(WRITE) == "   0.05 s: write unknown 0 in 10.00 s by ?: TimeoutError: "
