"""A short set of the drills: each rung keeps its promises, and what it can't promise is seen to break.

The full set is `make scoreboard`; limits and their reasons are in ladder/drills/promises.py.
"""

from functools import partial

import pytest

from ladder.drills.checker import down_at, outages_of, silences
from ladder.drills.record import Record
from tests.conftest import Drilled, Measure

LONG = partial(pytest.param, marks=pytest.mark.long)


@pytest.mark.stage(0)
@pytest.mark.parametrize("fault", ["kill app1", "deploy"])
def test_any_part_down_is_the_site_down(drilled: Drilled, measure: Measure, fault: str) -> None:
    """The stated flaw, shown."""
    record, verdict = drilled(fault)
    measure(fault, verdict.reads)
    assert verdict.reads.bad, "nobody noticed: then this stage has a flaw less than it says"
    assert verdict.reads.until_healed == (fault != "deploy")
    if fault == "kill app1":
        # As long as nginx is there, it answers in time, and whole: a page, not a hanging browser.
        assert not record.of("read", "unknown")
        assert {read.status for read in record.of("read", "failed")} <= {502, 503, 504}


KILL_PAUSE_PARTITION = "kill {0} then pause {0} then partition {0}"
"""Dead, frozen, cut off: each as soon as the one before is healed, and everything is back."""


@pytest.mark.stage(1)
@pytest.mark.parametrize(
    "fault", [*map(KILL_PAUSE_PARTITION.format, ("web1", "app1", "server2", "replica")), LONG("deploy")]
)
def test_nobody_notices(drilled: Drilled, measure: Measure, fault: str) -> None:
    """The promise says so: no failed read or write but what a frozen one had under way, nothing lost, nothing twice."""
    _, verdict = drilled(fault)
    measure(fault, verdict.streams)


@pytest.mark.stage(2)
@pytest.mark.parametrize("fault", [LONG("pause web1"), "recreate app1", "deploy"])
def test_firewalls_take_nothing_from_it(drilled: Drilled, measure: Measure, fault: str) -> None:
    """A server that comes back, at another address even, is let in by the others' rules as it was before."""
    _, verdict = drilled(fault)
    measure(fault, verdict.streams)


def down_until_healed(record: Record, kind: str) -> bool:
    """At each of its healings."""
    requests = record.of(kind)
    outages = [*outages_of(requests), *silences(requests)]
    return all(down_at(heal.at, outages, requests) for heal in record.heals)


@pytest.mark.stage(1)
@pytest.mark.parametrize("fault", [KILL_PAUSE_PARTITION.format("primary"), LONG("kill server1")])
def test_without_its_primary_the_site_reads_on(drilled: Drilled, measure: Measure, fault: str) -> None:
    record, verdict = drilled(fault)
    measure(fault, verdict.streams)
    assert down_until_healed(record, "write"), "writes went on without a primary"
    assert {write.status for write in record.of("write", "failed")} == {503}


@pytest.mark.stage(1)
@pytest.mark.parametrize("fault", [KILL_PAUSE_PARTITION.format("lb1"), "power-cut"])
def test_without_its_balancer_or_all_of_it_the_site_is_gone_and_comes_back(
    drilled: Drilled, measure: Measure, fault: str
) -> None:
    record, verdict = drilled(fault)
    measure(fault, verdict.streams)
    assert down_until_healed(record, "read"), "nobody noticed: then this stage has a flaw less than it says"


@pytest.mark.stage(1)
def test_asynchronous_replication_can_lose_acknowledged_writes(drilled: Drilled, measure: Measure) -> None:
    """The primary's disk is lost with a binary log that the replica never received. Provoked on purpose."""
    record, verdict = drilled("partition replica and wipe primary")
    measure("acknowledged writes lost", f"{len(verdict.lost)} of {len(record.of('write', 'ok'))}")
    assert verdict.lost, "nothing was lost: then this stage has a flaw less than it says"
    assert not verdict.twice
