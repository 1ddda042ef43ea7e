"""What a stage promises for what stands in no row of its own."""

from dataclasses import replace

from ladder.drills.promises import ANYTHING, NOTHING_LOST, PROMISES, SILENT, UNNOTICED, Promise, broken, promise
from tests.unit.ladder.test_scoreboard import WELL


def test_a_row_is_what_it_says() -> None:
    assert promise(1, "kill web1") == UNNOTICED
    assert promise(1, "kill server2 then kill server1") == PROMISES[1]["kill server2 then kill server1"]


def test_one_fault_after_another_may_cost_what_each_may() -> None:
    assert promise(1, "kill web1 then pause web1 then partition web1") == Promise(
        failed_reads=2 * (SILENT.failed_reads or 0),
        failed_writes=2 * (SILENT.failed_writes or 0),
        read_gap=2,
        write_gap=2,
        felt=24,
        lost=0,
    )


def test_what_one_does_not_promise_all_together_do_not() -> None:
    found = promise(1, "kill web1 then kill primary")
    assert (found.failed_reads, found.failed_writes, found.write_gap, found.lost) == (0, None, None, 0)
    assert promise(1, "kill web1 then wipe primary").lost is None


def test_of_what_is_in_no_row_nothing_is_promised() -> None:
    assert promise(1, "slow lb1") == ANYTHING
    assert promise(1, "slow lb1 then slow lb1") == ANYTHING
    assert promise(9, "kill web1") == ANYTHING


def test_who_lost_the_only_disk_may_have_lost_the_writers_account_but_the_site_must_be_back() -> None:
    refused = replace(WELL, writes=replace(WELL.writes, down_at_end=True))
    assert list(broken(promise(0, "wipe primary"), refused)) == []
    assert list(broken(NOTHING_LOST, refused)) == ["writes down at the end: 1, promised at most 0"]
    silent = replace(WELL, reads=replace(WELL.reads, down_at_end=True))
    assert list(broken(promise(0, "wipe primary"), silent)) == ["reads down at the end: 1, promised at most 0"]
