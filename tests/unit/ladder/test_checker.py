"""Forged records: each defect turns its own figure red, and no other.

Every record is the clean one of forged.py, spoiled; all expected figures were worked out by hand from its times.
"""

from dataclasses import asdict, replace

import pytest

from ladder.drills.checker import check, quantile, sentence
from ladder.drills.promises import ANYTHING, NOTHING_LOST, UNNOTICED, broken
from ladder.drills.record import Moment, Record
from tests.unit.ladder.forged import FAULT, TWO_FAULTS, clean, failing, holding, messages, reads, spoil, text


def figures(record: Record) -> dict[str, object]:
    told = asdict(check(record))
    return {f"{kind}.{name}": value for kind in ("reads", "writes") for name, value in told.pop(kind).items()} | told


def changed(record: Record) -> dict[str, object]:
    """The figures that are not those of the clean record; times to the millisecond."""
    before = figures(clean())
    found = {name: value for name, value in figures(record).items() if value != pytest.approx(before[name], abs=1e-6)}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def test_a_clean_record_is_green_in_every_figure() -> None:
    stream = {"failed": 0, "unknown": 0, "until_healed": False, "felt": 0.0, "down_at_end": False}
    read = stream | {"kind": "read", "sent": 300, "gap": 0.1, "p50": 0.01, "p99": 0.01, "slowest": 0.01}
    write = stream | {"kind": "write", "sent": 60, "gap": 0.5, "p50": 0.02, "p99": 0.02, "slowest": 0.02}
    verdict = check(clean())
    assert asdict(verdict.reads) == pytest.approx(read)
    assert asdict(verdict.writes) == pytest.approx(write)
    assert (verdict.lost, verdict.twice, verdict.differing, verdict.void) == ((), (), (), "")
    assert (verdict.resolved, verdict.refused_but_stored, verdict.back) == (0, 0, 0)
    assert verdict.redundant == pytest.approx(2.0)
    assert not list(broken(UNNOTICED, verdict))


def test_a_failed_read_is_counted() -> None:
    assert changed(failing(60)) == {"reads.failed": 1, "reads.gap": 0.2, "reads.felt": 0.1}


def test_a_read_that_nobody_answered_is_unknown_and_as_slow_as_the_visitors_patience() -> None:
    record = reads([60], outcome="unknown", latency=10)
    assert changed(record) == {"reads.unknown": 1, "reads.gap": 0.2, "reads.felt": 0.1, "reads.slowest": 10.0}


def test_a_failed_write_is_no_read() -> None:
    record = holding(spoil(clean(), "write", [20], outcome="failed"), messages(without=20), "db1", "db2")
    assert changed(record) == {"writes.failed": 1, "writes.gap": 1.0, "writes.felt": 0.5}
    assert check(record).writes.bad == 1


def test_the_gap_is_from_the_last_success_to_the_first() -> None:
    assert changed(failing(*range(60, 80))) == {"reads.failed": 20, "reads.gap": 2.1, "reads.felt": 2.0}


def test_a_stall_in_which_all_succeed_late_is_a_gap() -> None:
    """Of 300 reads three are slower than the 99th in a hundred."""
    assert changed(reads(range(60, 76), end=7.55)) == {
        "reads.gap": 1.64,
        "reads.felt": 0.7,
        "reads.p99": 1.25,
        "reads.slowest": 1.55,
    }


def test_those_given_up_after_the_recovery_do_not_prolong_the_gap() -> None:
    """They ended when the fault had been undone; those due at 8.0 s and later were answered."""
    record = reads(range(60, 80), outcome="unknown", latency=10)
    assert changed(record) == {
        "reads.unknown": 20,
        "reads.gap": 2.1,
        "reads.felt": 2.0,
        "reads.p99": 10.0,
        "reads.slowest": 10.0,
    }


def test_single_successes_between_those_given_up_do_not_end_the_outage() -> None:
    record = reads(range(60, 80, 2), outcome="unknown", latency=10)
    assert changed(record) == {
        "reads.unknown": 10,
        "reads.gap": 2.0,
        "reads.felt": 1.0,
        "reads.p99": 10.0,
        "reads.slowest": 10.0,
    }


def test_three_late_successes_do_not_hide_the_quick_one_after_them() -> None:
    """A frozen server held up those due at 6.1, 6.2 and 6.3 s; the one due at 6.4 s was answered by another."""
    record = spoil(failing(60), "read", [61, 62, 63], latency=5)
    # 299 latencies without the refused one's: the 297th is the first of the three.
    expected = {"reads.failed": 1, "reads.gap": 0.5, "reads.felt": 0.4, "reads.p99": 5.0, "reads.slowest": 5.0}
    assert changed(record) == expected


def test_a_quick_refusal_is_no_quick_answer() -> None:
    """Half are refused in 10 ms, half answered in 2 s."""
    record = spoil(failing(*range(50, 200)), "read", [*range(50), *range(200, 300)], latency=2)
    stream = check(record).reads
    assert (stream.p50, stream.p99) == pytest.approx((2.0, 2.0))


def test_two_successes_and_a_failure_do_not_end_an_outage() -> None:
    assert changed(failing(60, 63, 66)) == {"reads.failed": 3, "reads.gap": 0.8, "reads.felt": 0.3}


def test_three_successes_end_an_outage() -> None:
    assert changed(failing(60, 64)) == {"reads.failed": 2, "reads.gap": 0.2, "reads.felt": 0.2}


def test_an_outage_that_never_ends_lasts_to_the_end_of_the_record() -> None:
    record = failing(*range(60, 300))
    expected = {"reads.failed": 240, "reads.gap": 24.0, "reads.felt": 24.0, "reads.until_healed": True}
    assert changed(record) == expected | {"reads.down_at_end": True}
    assert list(broken(NOTHING_LOST, check(record))) == ["reads down at the end: 1, promised at most 0"]


def test_two_successes_at_the_very_end_are_no_recovery() -> None:
    expected = {"reads.failed": 238, "reads.gap": 24.0, "reads.felt": 23.8, "reads.until_healed": True}
    assert changed(failing(*range(60, 298))) == expected | {"reads.down_at_end": True}


def test_failures_at_the_very_beginning_count_from_the_first() -> None:
    """The first visit is due at 1.0 s."""
    record = failing(*range(10, 15))
    record = replace(record, requests=tuple(each for each in record.requests if each.due >= 1 or each.kind == "write"))
    assert changed(record) == {"reads.sent": 290, "reads.failed": 5, "reads.gap": 0.51, "reads.felt": 0.5}


def test_a_stream_without_any_success_is_down_all_the_time() -> None:
    verdict = check(failing(*range(300)))
    assert verdict.reads.failed == 300
    assert verdict.reads.gap == pytest.approx(29.91)
    assert verdict.reads.until_healed


def test_down_at_the_healing_is_down_until_it_was_healed() -> None:
    expected = {"reads.failed": 125, "reads.gap": 12.6, "reads.felt": 12.5, "reads.until_healed": True}
    assert changed(failing(*range(60, 185))) == expected


def test_what_recovered_before_the_healing_did_so_by_itself() -> None:
    assert changed(failing(*range(60, 171))) == {"reads.failed": 111, "reads.gap": 11.2, "reads.felt": 11.1}


def test_a_stall_that_only_the_healing_ended_is_down_until_it_was_healed() -> None:
    """No request fails: each is answered when the frozen server thaws."""
    assert changed(reads(range(150, 178), end=17.75)) == {
        "reads.gap": 2.84,
        "reads.felt": 1.9,
        "reads.p99": 2.45,
        "reads.slowest": 2.75,
        "reads.until_healed": True,
    }


def test_one_failure_in_the_moment_of_the_healing_is_not_down_until_it_was_healed() -> None:
    assert changed(failing(174)) == {"reads.failed": 1, "reads.gap": 0.2, "reads.felt": 0.1}


def test_rare_requests_are_not_down_between_two_of_them() -> None:
    """One write in two seconds; the fault is undone between two that succeed."""
    record = clean()
    rare = replace(
        record,
        begin=replace(record.begin, writes=0.5),
        requests=tuple(each for each in record.requests if each.kind == "read" or each.due % 2 == 0),
    )
    assert changed(holding(rare, {n + 1: text(n) for n in range(0, 60, 4)}, "db1", "db2")) == {
        "writes.sent": 15,
        "writes.gap": 2.0,
    }


def test_a_fault_on_top_of_another_does_not_hide_that_the_first_was_down_until_healed() -> None:
    record = replace(failing(*range(52, 185)), faults=(FAULT, Moment(8.0, 8.5)))
    expected = {"reads.failed": 133, "reads.gap": 13.4, "reads.felt": 13.3, "reads.until_healed": True}
    assert changed(record) == expected


@pytest.mark.parametrize(
    ("first", "second", "until_healed"),
    [
        (range(60, 80), range(142, 160), False),
        (range(60, 102), range(142, 160), True),
        (range(60, 80), range(142, 177), True),
    ],
)
def test_of_two_faults_each_has_its_own_healing(first: range, second: range, until_healed: bool) -> None:
    verdict = check(replace(failing(*first, *second), **TWO_FAULTS))
    assert verdict.reads.until_healed == until_healed


def test_two_faults_are_felt_as_one_after_the_other_without_the_quiet_time_between_them() -> None:
    record = replace(failing(*range(60, 70), *range(142, 160)), **TWO_FAULTS)
    assert changed(record) == {"reads.failed": 28, "reads.gap": 1.9, "reads.felt": 2.8}


def test_two_slow_answers_among_ten_a_second_are_felt_for_a_fifth_of_a_second() -> None:
    assert changed(reads([60, 90], latency=1.0)) == {"reads.gap": 0.2, "reads.felt": 0.2, "reads.slowest": 1.0}


def test_an_answer_within_nine_tenths_of_a_second_is_not_felt() -> None:
    assert changed(reads([60, 90], latency=0.85)) == {"reads.gap": 0.2, "reads.slowest": 0.85}


@pytest.mark.parametrize(
    ("share", "value"), [(0.01, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.51, 6), (0.99, 10), (1.0, 10)]
)
def test_a_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    assert quantile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], share) == value


def test_the_quantile_of_nothing_is_nothing() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3.0], 0.01) == 3.0


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (range(150), {"reads.p99": 0.03, "reads.slowest": 0.03}),
        (range(151), {"reads.p50": 0.03, "reads.p99": 0.03, "reads.slowest": 0.03}),
        (range(3), {"reads.slowest": 0.03}),
        (range(4), {"reads.p99": 0.03, "reads.slowest": 0.03}),
    ],
)
def test_p50_and_p99_turn_with_the_request_at_their_rank(numbers: range, expected: dict[str, float]) -> None:
    found = changed(reads(numbers, latency=0.03))
    found.pop("reads.gap", None)  # 0.12 s, where slow ones follow quick ones
    assert found == expected


def test_latency_counts_from_when_a_request_was_due() -> None:
    """It left 0.25 s late, when read 62 had ended."""
    assert changed(reads([60], late=0.25, newest=63)) == {"reads.gap": 0.2, "reads.slowest": 0.26}


def test_an_acknowledged_write_that_is_missing_is_lost() -> None:
    record = holding(clean(), messages(without=20), "db1", "db2")
    assert changed(record) == {"lost": (text(20),)}


def test_an_acknowledged_write_under_another_id_is_lost() -> None:
    record = holding(clean(), messages(without=20, extra={99: text(20)}), "db1", "db2")
    assert changed(record) == {"lost": (text(20),)}


def test_an_acknowledged_write_that_only_the_replica_holds_is_lost() -> None:
    record = holding(clean(), messages(without=20), "db1")
    assert changed(record) == {"lost": (text(20),), "differing": ("db2",)}


def test_a_write_that_was_never_acknowledged_cannot_be_lost() -> None:
    record = holding(spoil(clean(), "write", [20], outcome="unknown"), messages(without=20), "db1", "db2")
    assert changed(record) == {"writes.unknown": 1, "writes.gap": 1.0, "writes.felt": 0.5}


def test_a_write_that_is_stored_twice_is_told() -> None:
    record = holding(clean(), messages(extra={99: text(20)}), "db1", "db2")
    assert changed(record) == {"twice": (text(20),)}


@pytest.mark.parametrize(
    ("outcome", "figure", "counter"),
    [("unknown", "resolved", "writes.unknown"), ("failed", "refused_but_stored", "writes.failed")],
)
def test_a_write_that_happened_unacknowledged_is_told_and_not_lost(outcome: str, figure: str, counter: str) -> None:
    record = spoil(clean(), "write", [20], outcome=outcome)
    assert changed(record) == {counter: 1, "writes.gap": 1.0, "writes.felt": 0.5, figure: 1}
    twice = holding(record, messages(extra={99: text(20)}), "db1", "db2")
    assert changed(twice) == {counter: 1, "writes.gap": 1.0, "writes.felt": 0.5, figure: 1, "twice": (text(20),)}


@pytest.mark.parametrize(
    "held",
    [messages(without=20), messages(extra={99: text(20)}), messages(without=20, extra={99: text(20)}), {}],
    ids=["less", "more", "another id", "nothing"],
)
def test_a_replica_that_holds_something_else_differs(held: dict[int, str]) -> None:
    assert changed(holding(clean(), held, "db2")) == {"differing": ("db2",)}


def test_a_replica_that_does_not_tell_differs() -> None:
    record = clean()
    assert changed(replace(record, stored=record.stored[:1])) == {"differing": ("db2",)}


def test_the_order_in_which_a_node_tells_makes_no_difference() -> None:
    backwards = dict(reversed(messages().items()))
    assert not changed(holding(clean(), backwards, "db2"))


def test_a_read_that_shows_less_than_one_that_had_ended_went_back() -> None:
    """Read 99 showed 100 and ended at 9.91 s, read 100 left at 10.0 s."""
    assert changed(reads([100], newest=99)) == {"back": 1}


def test_a_read_is_compared_with_all_that_had_ended_and_not_with_the_last() -> None:
    assert changed(reads([100, 101], newest=99)) == {"back": 2}


def test_a_read_may_show_the_same_again() -> None:
    assert not changed(reads([100], newest=100))


def test_reads_that_overlap_may_show_either() -> None:
    """Read 99 was still under way when read 100 left, then when both had ended."""
    overlapping = spoil(reads([99], latency=0.5), "read", [100], newest=99)
    assert changed(overlapping) == {"reads.gap": 0.2, "reads.slowest": 0.5}
    at_once = spoil(reads([99], end=10.0), "read", [100], newest=99)
    assert changed(at_once) == {"reads.gap": 0.19, "reads.slowest": 0.1}


def test_a_read_that_failed_shows_nothing() -> None:
    """Neither its own emptiness nor what it might have shown counts."""
    record = spoil(failing(60), "read", [60], newest=1)
    assert changed(record) == {"reads.failed": 1, "reads.gap": 0.2, "reads.felt": 0.1}


@pytest.mark.parametrize(
    ("moments", "seconds"),
    [((), None), ((17.9,), None), ((12.0, 17.9), None), ((18.0,), 0.0), ((12.0, 21.5), 3.5)],
)
def test_redundancy_counts_from_the_end_of_the_last_healing(moments: tuple[float, ...], seconds: float | None) -> None:
    assert changed(replace(clean(), redundant=moments)) == {"redundant": seconds}


def test_redundancy_between_two_faults_is_not_redundancy_at_the_end() -> None:
    record = replace(clean(), **(TWO_FAULTS | {"redundant": (12.0,)}))
    assert changed(record) == {"redundant": None}


def test_a_second_fault_before_all_is_back_from_the_first_has_no_redundancy() -> None:
    record = replace(clean(), **(TWO_FAULTS | {"redundant": (20.0,)}))
    assert changed(record) == {"redundant": None}


def dropping(kind: str, *, since: float = 0.0, until: float = 99.0) -> Record:
    """The clean record without the requests of one kind that were due in a time."""
    record = clean()
    kept = tuple(each for each in record.requests if not (each.kind == kind and since <= each.due <= until))
    return replace(record, requests=kept)


CLEAN = clean()
VOID = {
    "nothing was broken": replace(CLEAN, faults=()),
    "the drill was interrupted before the fault was undone": replace(CLEAN, heals=()),
    "the visitor did not end as it should": replace(CLEAN, cpu=None),
    "there is no read": dropping("read"),
    "there is no write": dropping("write"),
    "there is no read before the fault": dropping("read", until=5.05),
    "there is no write before the fault": dropping("write", until=5.0),
    "there is no read after the healing": dropping("read", since=18.0),
    "there is no write after the healing": dropping("write", since=18.0),
    "1 reads are missing from the record": dropping("read", since=6.0, until=6.0),
    "20 writes are missing from the record": dropping("write", since=6.0, until=15.5),
    "299 reads are too many for the rate": replace(
        CLEAN, begin=replace(CLEAN.begin, reads=0.01), requests=CLEAN.requests
    ),
    "the visitor could not keep its schedule: 4 of 360 requests left more than 0.2 s late; this machine was too busy": (
        reads(range(60, 64), late=0.25)
    ),
    "several nodes say that they are the primary: db1, db2": replace(
        CLEAN, stored=tuple(replace(node, role="primary") for node in CLEAN.stored)
    ),
    "no primary told what it holds": replace(CLEAN, stored=CLEAN.stored[1:]),
    "the primary holds 1 writes of which the record knows nothing": holding(
        CLEAN, messages(extra={99: text(99)}), "db1", "db2"
    ),
}


@pytest.mark.parametrize(("reason", "record"), VOID.items(), ids=VOID)
def test_a_record_that_carries_no_verdict_is_void_and_not_green(reason: str, record: Record) -> None:
    verdict = check(record)
    assert verdict.void == reason
    assert sentence(verdict) == f"void: {reason}"
    assert f"there is no verdict: {reason}" in list(broken(ANYTHING, verdict))


def test_less_than_one_late_request_in_a_hundred_is_not_void() -> None:
    """Three of 360."""
    assert not check(reads(range(60, 63), late=0.25)).void


def test_a_second_fault_that_was_not_undone_is_void() -> None:
    record = replace(CLEAN, faults=(FAULT, Moment(19.0, 19.1)))
    assert check(record).void == "the drill was interrupted before the fault was undone"


def test_a_drill_without_writes_needs_no_primary() -> None:
    record = replace(dropping("write"), begin=replace(CLEAN.begin, writes=0.0), stored=())
    verdict = check(record)
    assert (verdict.void, verdict.lost, verdict.differing, verdict.writes.sent) == ("", (), (), 0)
    assert "writes" not in sentence(verdict)


def test_the_sentence_of_a_clean_record() -> None:
    assert sentence(check(clean())) == (
        "reads: 0 of 300 failed, longest gap 0.10 s; p50 10 ms, p99 0.01 s, slowest 0.01 s;\n"
        "writes: 0 of 60 failed, longest gap 0.50 s; p50 20 ms, p99 0.02 s, slowest 0.02 s;\n"
        "acknowledged writes lost: 0 of 60, applied twice: 0;\n"
        "redundancy back after 2.0 s"
    )


def test_the_sentence_tells_every_defect() -> None:
    """The longest gap of reads is not the one that the healing ended: both are said, and not mixed up."""
    record = spoil(failing(*range(20, 60), *range(160, 181)), "read", [200], newest=1)
    record = spoil(spoil(record, "write", [20, 21], outcome="unknown"), "write", [22], outcome="failed")
    held = messages(without=20, extra={99: text(30)})
    del held[41]
    record = replace(holding(record, held, "db1"), redundant=())
    assert sentence(check(record)) == (
        "reads: 61 of 300 failed, down until it was healed, longest gap 4.10 s; "
        "p50 10 ms, p99 0.01 s, slowest 0.01 s;\n"
        "writes: 3 of 60 failed, longest gap 2.00 s; p50 20 ms, p99 0.02 s, slowest 0.02 s;\n"
        "acknowledged writes lost: 1 of 57, applied twice: 1;\n"
        "of 2 writes of unknown outcome 1 had happened;\n"
        "of 1 refused ones 1 had happened;\n"
        "not holding what the primary holds: db2;\n"
        "reads that went back in time: 1;\n"
        "redundancy was not back"
    )
