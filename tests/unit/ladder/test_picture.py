"""The picture of a drill shows the figures of its record, and nothing of it as markup."""

import dataclasses
import re

import pytest

from ladder.drills.checker import check
from ladder.drills.picture import Mark, draw, figure, levels_of
from ladder.drills.record import Begin, Moment, Record, Request, Stored

EVIL = '</script><script>alert("x")</script><b>'
OUTCOMES = ("ok", "ok", "failed", "unknown", "ok", "ok", "ok", "ok")


def visit(kind: str, number: int) -> Request:
    """Two requests a second, of which those of the first second after the fault, at 2 s, go wrong."""
    due, outcome = 1 + number / 2, OUTCOMES[number]
    by = {"ok": "lb1, web1, app1, db2" if number % 2 else "lb1, web2, app2, db2"}.get(outcome, "")
    said = EVIL if outcome == "failed" else ""
    return Request(kind, due, due, due + 0.01, outcome, "new", served_by=by, said=said)


RECORD = Record(
    begin=Begin("r", 1, "kill web1", reads=2, writes=2, patience=10, started="2026-11-21T06:00:00+00:00"),
    requests=tuple(visit(kind, number) for number in range(8) for kind in ("read", "write")),
    faults=(Moment(2.0, 2.1, "kill web1", ("web1 is killed",)),),
    heals=(Moment(3.0, 3.2, "", ("web1 is started",)),),
    redundant=(4.5,),
    stored=(Stored("db1", "primary", ()),),
    cpu=0.1,
)


def bars(record: Record, row: int) -> dict[str, list[float]]:
    return {
        trace.name: list(trace.y)
        for trace in figure(record).data
        if trace.type == "bar" and trace.yaxis == ("y" if row == 1 else f"y{row}")
    }


@pytest.mark.parametrize("row", [1, 2])
def test_a_bar_is_a_second_of_one_outcome(row: int) -> None:
    assert bars(RECORD, row) == {"ok": [2, 0, 2, 2], "failed": [0, 1, 0, 0], "unknown": [0, 1, 0, 0]}


def test_a_second_that_was_visited_in_part_is_no_outage() -> None:
    """Without its first read and its last one, the record begins and ends in the middle of a second."""
    record = dataclasses.replace(
        RECORD, requests=tuple(r for r in RECORD.requests if r.kind == "write" or -1 < r.due - 2 < 2.5)
    )
    (ok,) = (
        trace for trace in figure(record).data if trace.type == "bar" and trace.name == "ok" and trace.yaxis == "y"
    )
    assert list(ok.y) == pytest.approx([2, 0, 2, 2])
    assert list(ok.x) == pytest.approx([-0.25, 0.5, 1.5, 2.25])
    assert list(ok.width) == pytest.approx([0.46, 0.92, 0.92, 0.46])


def test_every_request_is_a_point_at_its_time_and_latency() -> None:
    points = {trace.name: trace for trace in figure(RECORD).data if trace.type == "scatter"}
    assert {name: len(trace.x) for name, trace in points.items()} == {
        "ok read": 6,
        "ok write": 6,
        "failed": 2,
        "unknown": 2,
    }
    assert list(points["ok read"].x) == [-1, -0.5, 1, 1.5, 2, 2.5]
    assert set(points["ok read"].y) == {0.01}


def test_a_lane_is_a_server_and_a_bar_its_answers_of_the_most_in_its_tier() -> None:
    lanes = [trace for trace in figure(RECORD).data if trace.yaxis == "y4"]
    assert {trace.name: list(trace.customdata) for trace in lanes} == {
        "lb1": [4, 0, 4, 4],
        "web1": [2, 0, 2, 2],
        "web2": [2, 0, 2, 2],
        "app1": [2, 0, 2, 2],
        "app2": [2, 0, 2, 2],
        "db2": [2, 0, 2, 2],  # of reads only
    }
    assert max(lanes[1].y) == max(lanes[2].y) == 0.85


def test_fault_healing_and_redundancy_are_marked_and_the_gap_is_told() -> None:
    notes = {note.text: note.x for note in figure(RECORD).layout.annotations}
    assert notes["<b>kill web1</b>"] == 0
    assert notes["<b>healed</b>"] == 1
    assert notes["<b>redundancy back</b>"] == 2.5
    assert notes[f"longest gap <b>{check(RECORD).reads.gap:.2f} s</b>"] == pytest.approx(-0.49)


def test_labels_that_would_overlap_stand_one_above_the_other() -> None:
    marks = [Mark(at, at, "partition replica", "", "") for at in (0, 1, 30)]
    assert levels_of(marks, 0.02) == [0, 1, 0]


def test_texts_of_others_are_no_markup() -> None:
    begin = dataclasses.replace(RECORD.begin, faults=EVIL, machine=EVIL)
    hostile = dataclasses.replace(RECORD, begin=begin, faults=(Moment(2.0, 2.1, EVIL, (EVIL,)),))
    page = draw(hostile, check(hostile))
    assert "alert(" in page
    assert 'alert("x")' not in page
    assert page.count("</script>") == draw(RECORD, check(RECORD)).count("</script>")


def test_the_page_needs_no_network_and_says_the_verdict() -> None:
    page = draw(RECORD, check(RECORD))
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(?:https?:)?//', page)
    assert "<title>kill web1 – stage 1, distributed</title>" in page
    assert "<li>reads: 2 of 8 failed" in page
    assert 'class="verdict"' in page


def test_a_void_verdict_is_written_in_red() -> None:
    void = dataclasses.replace(RECORD, cpu=None)
    assert '<ul class="void"><li>void: ' in draw(void, check(void))


def test_a_drill_without_writes_or_without_any_request_is_drawn_as_well() -> None:
    reads = dataclasses.replace(RECORD, requests=tuple(RECORD.of("read")))
    assert sum(bars(reads, 2)["ok"]) == 0
    assert bars(dataclasses.replace(RECORD, requests=(), redundant=()), 1)["ok"] == [0, 0]


def test_the_label_of_a_gap_that_lasts_beyond_the_axis_stays_in_sight() -> None:
    dead = tuple(dataclasses.replace(each, outcome="unknown", end=each.due + 10) for each in RECORD.requests[14:])
    drawn = figure(dataclasses.replace(RECORD, requests=RECORD.requests[:14] + dead)).layout
    assert all(note.x <= drawn.xaxis.range[1] for note in drawn.annotations)
    assert any("longest gap <b>1" in note.text for note in drawn.annotations)
